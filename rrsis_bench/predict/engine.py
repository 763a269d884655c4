"""A model ready to predict: frames and expressions in, logits at the frames' own size out.

The views, the tokens, the forward pass and the resizing are those of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from rrsis_bench.data.pixels.images import resize_bilinear
from rrsis_bench.data.text.pipeline import TextPipeline, TextReport
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ImageFirstSegmenter, Segmenter, resize_logits


@dataclass(frozen=True, slots=True)
class Frames:
    """Some frames on the device, ready for any expression.

    Attributes:
        tensors: the model's views, or the encoded pictures where the model encodes them apart from the text.
        sizes: (H, W) of the frames in pixels.
    """

    tensors: dict[str, Tensor]
    sizes: list[tuple[int, int]]


class Engine:
    """Predicts logits.

    Args:
        model: put into eval mode.
        text: its token pipeline.
        fabric: device and precision.
        align_corners: how logits are resized, as the protocol of the model's run says.

    Attributes:
        encoded: frames whose pictures were encoded, for models that do this once for all expressions.
    """

    def __init__(self, model: Segmenter, text: TextPipeline, fabric: Fabric, *, align_corners: bool = False):
        self.model, self.text, self.fabric, self.align_corners = model.eval(), text, fabric, align_corners
        self.encoded = 0
        self._tokens: dict[str, Tensor] = {}

    @property
    def side(self) -> int:
        """Side of the main view in pixels."""
        return next(iter(self.model.views.values()))

    def read(self, expressions: Sequence[str]) -> TextReport:
        """Take in the expressions that `logits` numbers from 0; says how many are cut.

        Raises:
            UserError: none, an empty one, or one in a language that the vocabulary does not know.
        """
        if not expressions:
            raise UserError("There is no expression to predict. Give one after the image, or with -e.")
        report = self.text.report(expressions)
        arrays = self.text(expressions)
        self._tokens = {key: torch.from_numpy(rows).to(self.fabric.device) for key, rows in arrays.items()}
        return report

    @torch.no_grad()
    def encode(self, frames: Sequence[np.ndarray]) -> Frames:
        """Frames, uint8 (H, W, 3) each, as the model sees them."""
        views: dict[str, Any] = {
            name: torch.from_numpy(np.stack([resize_bilinear(frame_HWC, side) for frame_HWC in frames]))
            for name, side in self.model.views.items()
        }
        moved = {name: view.to(self.fabric.device) for name, view in views.items()}
        sizes = [(frame_HWC.shape[0], frame_HWC.shape[1]) for frame_HWC in frames]
        if isinstance(self.model, ImageFirstSegmenter):
            self.encoded += len(frames)
            with self.fabric.autocast():
                return Frames(self.model.encode_image(moved), sizes)
        return Frames(moved, sizes)

    @torch.no_grad()
    def logits(self, frames: Frames, expression: int) -> list[np.ndarray]:
        """Logits of one expression on each frame: float32 (H, W) at the frame's size."""
        count = len(frames.sizes)
        text = {key: rows[expression : expression + 1].expand(count, -1) for key, rows in self._tokens.items()}
        with self.fabric.autocast():
            if isinstance(self.model, ImageFirstSegmenter):
                output = self.model.decode(frames.tensors, text)
            else:
                output = self.model(frames.tensors, text)
        resized = resize_logits(output.logits.float(), frames.sizes, align_corners=self.align_corners)
        return [logits_HW.cpu().numpy() for logits_HW in resized]
