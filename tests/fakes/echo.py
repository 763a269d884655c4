"""Models whose masks are known: the red band as logits, and a constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.interfaces import ImageFirstSegmenter, Segmenter, SegmenterOutput
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.predictor import ModelProvenance, Predictor

SENTENCES = ("the ship on the left", "the red vehicle", "左边的船", "a storage tank, white; round")
CUT = 127  # red values above it are the target


class Echo(Segmenter):
    """Logits are the red band minus 127.5, at the view's size."""

    def __init__(self, side: int):
        super().__init__()
        self.views, self.max_tokens = {"image": side}, 12
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:  # noqa: ARG002
        return SegmenterOutput(views["image"][:, 0].float() - (CUT + 0.5) + self.weight)


class Constant(Echo):
    """The same logit everywhere."""

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        return SegmenterOutput(torch.full_like(super().forward(views, text).logits, 1.25))


class RaisesOnSeventh(Echo):
    """Fails at its seventh call."""

    calls = 0

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        self.calls += 1
        if self.calls == 7:
            raise RuntimeError("out of luck")
        return super().forward(views, text)


class EchoFirst(ImageFirstSegmenter):
    """Echo that encodes the picture apart from the text; an even number of words inverts the mask."""

    def __init__(self, side: int):
        super().__init__()
        self.views, self.max_tokens = {"image": side}, 12
        self.encodings = 0

    def encode_image(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.encodings += len(views["image"])
        return {"red": views["image"][:, 0].float() - (CUT + 0.5)}

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        sign = 1 - 2 * (text["attention_mask"].sum(1) % 2 == 0).float()
        return SegmenterOutput(encoded["red"] * sign[:, None, None])


def make_engine(model: Segmenter, sentences: Sequence[str] = SENTENCES) -> Engine:
    """An engine on the CPU whose vocabulary covers `sentences`."""
    text = TextPipeline(build_wordpiece(sentences, 4000), model.max_tokens)
    return Engine(model, text, Fabric(accelerator="cpu", devices=1))


def make_predictor(model: Segmenter, sentences: Sequence[str] = SENTENCES, side: int | None = None) -> Predictor:
    """A predictor whose model comes from nowhere."""
    origin = ModelProvenance("echo", None, "nowhere", "0" * 64, None, side, None)
    return Predictor(make_engine(model, sentences), origin)
