"""A small model that encodes pictures apart from the text, on a frozen backbone with an adapter, and counts."""

from __future__ import annotations

import torch
from torch import nn

from rrsis_bench.interfaces import ImageFirstSegmenter, SegmenterOutput
from tests.fakes.toy import SIDE, TOKENS


class Backbone(nn.Module):
    """A frozen convolution, a trained low-rank pair beside it, and statistics that move without gradients."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(2, 8) / 4)
        self.lora_b = nn.Parameter(torch.zeros(8, 2))

    def forward(self, image_B3SS):
        maps_BCHW = self.norm(self.conv(image_B3SS))
        return maps_BCHW + torch.einsum("bchw,rc,dr->bdhw", maps_BCHW, self.lora_a, self.lora_b)


class ImageFirst(ImageFirstSegmenter):
    """Logits on both sides of zero, from a picture's maps and the mean of the words.

    Attributes:
        encoded: pictures of every call of `encode_image`.
        decoded: logits in the order of the samples.
    """

    def __init__(self, weights: str = "hub:nobody/backbone", seed: int = 0):
        torch.manual_seed(seed)
        super().__init__()
        self.views, self.max_tokens, self.weights = {"image": SIDE}, TOKENS, weights
        self.backbone = Backbone()
        self.words = nn.Embedding(300, 8)
        self.head = nn.Conv2d(8, 1, 1)
        self.encoded: list[int] = []
        self.decoded: list[torch.Tensor] = []

    def encode_image(self, views):
        self.encoded.append(len(views["image"]))
        maps_BCHW = self.backbone(views["image"].float() / 255)
        return {"maps": maps_BCHW, "mean": maps_BCHW.mean(dim=(2, 3))}

    def decode(self, encoded, text):
        words_BC = self.words(text["input_ids"]).mean(1) - encoded["mean"]
        logits_BHW = self.head(encoded["maps"] * words_BC[..., None, None])[:, 0]
        logits_BHW = logits_BHW - logits_BHW.mean(dim=(1, 2), keepdim=True)
        self.decoded.extend(logits_BHW.detach())
        return SegmenterOutput(logits_BHW)

    def frozen_parts(self):
        return {"backbone.": self.weights}
