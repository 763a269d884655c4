"""The evaluation protocol: at which size masks are compared, what an empty mask scores, what selects a checkpoint.

Two protocols stand in ``conf/protocol``: ``native`` (the default) and ``lavt`` (how the LAVT family's code scores, for
comparison with printed numbers). Rows of different protocols are never ranked together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rrsis_bench.errors import UserError

METRIC_VERSION = "1"
"""Raised whenever the same integers would give other numbers; rows of different versions are never ranked together."""

Resolution = Literal["native", "input"]
EmptyRule = Literal["rela", "zero"]
SelectionSplit = Literal["train", "val", "test"]
SelectionMetric = Literal["miou", "oiou"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "resolution": get_args(Resolution),
    "empty": get_args(EmptyRule),
    "selection_split": get_args(SelectionSplit),
    "selection_metric": get_args(SelectionMetric),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """How predictions are scored; every field changes the numbers.

    Attributes:
        name: the protocol's name in ``conf/protocol``.
        resolution: ``native`` compares masks at the target's own size; ``input`` at the model's main view, with the
            target resized NEAREST (the LAVT family).
        align_corners: how the bilinear resize of the logits places its samples.
        strict: Pr@X counts IoU > X instead of IoU >= X.
        empty: ``rela`` is the rule of ReLA (Liu et al., CVPR 2023; gRefCOCO): a correct empty prediction scores 1, a
            false positive 0 with its pixels in the union, Pr@X over targeted samples only. ``zero`` is the rule of the
            LAVT family: IoU is 0 whenever the union is empty, and every sample counts in Pr@X.
        selection_split: the split whose score picks the checkpoint; rows selected on ``test`` are not ranked.
        selection_metric: the score that picks it.
        no_target_pixels: a prediction of at most this many pixels (at the scored size) says "no target".

    Raises:
        UserError: a value that is none of the choices.
    """

    name: str
    resolution: Resolution = "native"
    align_corners: bool = False
    strict: bool = False
    empty: EmptyRule = "rela"
    selection_split: SelectionSplit = "val"
    selection_metric: SelectionMetric = "miou"
    no_target_pixels: int = 0

    def __post_init__(self) -> None:
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise UserError(f"protocol.{field}={getattr(self, field)!r} is not one of: {', '.join(choices)}.")
        for field in ("align_corners", "strict"):
            if not isinstance(getattr(self, field), bool):
                raise UserError(f"protocol.{field}={getattr(self, field)!r} must be true or false.")
        pixels = self.no_target_pixels
        if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
            raise UserError(f"protocol.no_target_pixels={pixels!r} must be a whole number, 0 or more.")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Protocol:
        """Build a protocol from a config section.

        Raises:
            UserError: a field that protocols do not have, or a value that is none of the choices.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in mapping if key not in known)
        if unknown:
            raise UserError(f"Unknown protocol field: {', '.join(unknown)}. A protocol has: {', '.join(known)}.")
        if "name" not in mapping:
            raise UserError("The protocol has no name: add `name:` to its file in conf/protocol.")
        return cls(**{str(key): value for key, value in mapping.items()})

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, in order."""
        return dataclasses.asdict(self)

    @property
    def scoring_id(self) -> str:
        """Eight characters over what turns predictions into numbers; equal ids mean comparable scores.

        Name and checkpoint selection stay out: they do not change what a given prediction scores.
        """
        scoring = {
            key: value
            for key, value in self.as_dict().items()
            if key not in ("name", "selection_split", "selection_metric")
        }
        return hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()[:8]

    def scored_size(self, native: tuple[int, int], view: int) -> tuple[int, int]:
        """The (H, W) at which prediction and target are compared.

        Args:
            native: (H, W) of the target mask.
            view: side of the model's main view in pixels.
        """
        return native if self.resolution == "native" else (view, view)
