"""The evaluation protocol: the size at which masks are compared, the score of an empty mask, the selection rule.

``conf/protocol`` has two: ``native`` (the default) and ``lavt`` (how the LAVT family's code scores, for comparison with
printed numbers). Rows of different protocols are never ranked together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from rrsis_bench.config.fields import Affects, setting

METRIC_VERSION = "1"
"""Raised when the same integers would give other numbers. Rows of different versions are never ranked together."""

Resolution = Literal["native", "input"]
EmptyRule = Literal["rela", "zero"]
SelectionSplit = Literal["train", "val", "test"]
SelectionMetric = Literal["miou", "oiou"]

_SELECTION = ("name", "selection_split", "selection_metric")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How predictions are scored, and which score selects the checkpoint.

    The rule of ReLA (Liu et al., CVPR 2023; gRefCOCO) for empty masks: a correct empty prediction scores 1, a false
    positive scores 0 and its pixels are in the union, and Pr@X covers samples with a target only. The rule of the LAVT
    family: IoU is 0 if the union is empty, and Pr@X covers every sample.
    """

    name: str = setting("Name of the protocol.", Affects.NOTHING)
    resolution: Resolution = setting(
        "Size at which masks are compared: the target's own size, or the model's main view with the target resized "
        "NEAREST. The selection split is scored the same way.",
        Affects.BOTH,
        default="native",
    )
    align_corners: bool = setting("Whether the logits are resized with aligned corners.", Affects.BOTH, default=False)
    strict: bool = setting("Whether Pr@X counts IoU > X instead of IoU >= X.", Affects.EVALUATION, default=False)
    empty: EmptyRule = setting("Rule for empty masks: ReLA's or the LAVT family's.", Affects.BOTH, default="rela")
    selection_split: SelectionSplit = setting(
        "Split whose score selects the checkpoint. Rows selected on ``test`` are not ranked.",
        Affects.BOTH,
        default="val",
    )
    selection_metric: SelectionMetric = setting("Score that selects the checkpoint.", Affects.BOTH, default="miou")
    no_target_pixels: int = setting(
        'Largest prediction that still means "no target", at the scored size.',
        Affects.BOTH,
        unit="pixels",
        at_least=0,
        default=0,
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, in order."""
        return dataclasses.asdict(self)

    @property
    def scoring_id(self) -> str:
        """Eight characters over the fields that turn predictions into numbers. Equal ids mean comparable scores.

        Name and selection are left out: they do not change the score of a given prediction.
        """
        scoring = {key: value for key, value in self.as_dict().items() if key not in _SELECTION}
        return hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()[:8]

    def scored_size(self, native: tuple[int, int], view: int) -> tuple[int, int]:
        """Return the (H, W) at which prediction and target are compared.

        Args:
            native: (H, W) of the target mask.
            view: side of the model's main view in pixels.
        """
        return native if self.resolution == "native" else (view, view)
