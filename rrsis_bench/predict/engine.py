"""Predict logits of expressions on frames, at the frames' own size.

Views, tokens, forward pass and resizing are those of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Frames on the device, ready for any expression.

    Attributes:
        tensors: the model's views, or encoded images if the model encodes them without the text.
        sizes: (H, W) of the frames in pixels.
    """

    tensors: dict[str, Tensor]
    sizes: list[tuple[int, int]]


class Engine:
    """Predict logits.

    Args:
        model: is set to eval mode.
        text: its token pipeline.
        fabric: device and precision.
        align_corners: how logits are resized: the protocol of the model's run.
    """

    def __init__(self, model: Segmenter, text: TextPipeline, fabric: Fabric, *, align_corners: bool = False):
        self.model, self.text, self.fabric, self.align_corners = model.eval(), text, fabric, align_corners
        self._tokens: dict[str, Tensor] = {}

    @property
    def side(self) -> int:
        """Side of the main view in pixels."""
        return next(iter(self.model.views.values()))

    def read(self, expressions: Sequence[str]) -> TextReport:
        """Tokenise the expressions, which `logits` numbers from 0, and report how many are truncated.

        Raises:
            UserError: no expression, an empty one, or one in a language that the vocabulary does not cover.
        """
        if not expressions:
            raise UserError("There is no expression to predict. Give one after the image, with -e or --expressions.")
        report = self.text.report(expressions)
        arrays = self.text(expressions)
        self._tokens = {key: torch.from_numpy(rows).to(self.fabric.device) for key, rows in arrays.items()}
        return report

    @torch.no_grad()
    def encode(self, frames: Sequence[np.ndarray]) -> Frames:
        """Resize frames, uint8 (H, W, 3) each, to the model's views. Encode them if the model does so without text."""
        views: dict[str, Tensor] = {}
        for name, side in self.model.views.items():
            resized = np.stack([resize_bilinear(frame_HWC, side) for frame_HWC in frames])
            views[name] = torch.from_numpy(resized).to(self.fabric.device)
        sizes = [(frame_HWC.shape[0], frame_HWC.shape[1]) for frame_HWC in frames]
        if isinstance(self.model, ImageFirstSegmenter):
            with self.fabric.autocast():
                return Frames(self.model.encode_image(views), sizes)
        return Frames(views, sizes)

    @torch.no_grad()
    def logits(self, frames: Frames, expression: int) -> list[np.ndarray]:
        """Return logits of one expression on each frame: float32 (H, W) at the frame's size."""
        count = len(frames.sizes)
        text = {key: rows[expression : expression + 1].expand(count, -1) for key, rows in self._tokens.items()}
        with self.fabric.autocast():
            if isinstance(self.model, ImageFirstSegmenter):
                output = self.model.decode(frames.tensors, text)
            else:
                output = self.model(frames.tensors, text)
        resized = resize_logits(output.logits.float(), frames.sizes, align_corners=self.align_corners)
        return [logits_HW.cpu().numpy() for logits_HW in resized]
