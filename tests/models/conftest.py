"""Tiny configurations of the models and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import Segmenter

SWIN = {
    "embed_dim": 16,
    "depths": [1, 2, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window": 4,
    "drop_path": 0.0,
    "weights": "random",
}
BERT = {
    "hidden": 32,
    "layers": 2,
    "heads": 2,
    "intermediate": 64,
    "vocab_size": 200,
    "max_positions": 32,
    "dropout": 0.0,
    "weights": "random",
}
SIDE = 64
TOKENS = 12
CLIP = {
    "model": "",
    "image": SIDE,
    "patch": 16,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "text_width": 32,
    "text_layers": 1,
    "text_heads": 2,
    "vocab_size": BERT["vocab_size"],
    "context_length": TOKENS,
    "adapt": "all",
    "weights": "random",
}
SAM2 = {
    "model": "",
    "image": SIDE,
    "embed_dim": 16,
    "heads": 1,
    "blocks": [1, 1, 2, 1],
    "windows": [8, 4, 4, 2],
    "global_blocks": [3],
    "background": [4, 4],
    "width": 32,
    "mlp_dim": 32,
    "decoder_heads": 2,
    "mask_channels": 8,
    "adapt": "all",
    "weights": "random",
}
TINY: dict[str, dict[str, Any]] = {
    name: {"views": {"image": SIDE}, "max_tokens": TOKENS, "swin": SWIN, "bert": BERT}
    for name in ("lavt", "fianet", "rmsin", "mrsnet")
} | {"csinet": {"close": SIDE, "n_view": 2, "max_tokens": TOKENS, "swin": SWIN, "bert": BERT}}
TINY["sgsrf"] = {"clip": CLIP, "sam2": SAM2, "heads": 4, "prompt_width": 32, "hidden": 48}


def build_tiny(name: str, **overrides: Any) -> Segmenter:
    """The tiny model `name`, the same weights every time."""
    torch.manual_seed(0)
    return registry.load_class(name)(**{**TINY[name], **overrides})


def make_inputs(samples: int = 3, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Views (those of every model) and text of a batch; every sample has another length, object and position."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (samples, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    ids = torch.randint(1, BERT["vocab_size"], (samples, TOKENS), generator=generator)
    masks = torch.zeros(4, samples, TOKENS, dtype=torch.int64)
    for row in range(samples):
        length = TOKENS - row % 4
        masks[0, row, :length] = 1
        masks[1, row, 1 + row % 3 : 3 + row % 3] = 1
        masks[2, row, 5 : 6 + row % 4] = 1
        masks[3, row, 1 : length - 1] = 1  # without the special tokens around the words
    text = dict(zip(("attention_mask", "object_mask", "position_mask", "word_mask"), masks, strict=True))
    views = {"image": image, "close": image, "remote": image[..., ::2, ::2], "clip": image, "sam": image}
    return views, {"input_ids": ids, **text}


@pytest.fixture(params=sorted(TINY))
def name(request: pytest.FixtureRequest) -> str:
    """Every model once."""
    return request.param


@pytest.fixture
def tiny() -> Callable[..., Segmenter]:
    """`build_tiny`: name, overrides -> model."""
    return build_tiny


@pytest.fixture
def inputs() -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """`make_inputs`: number of samples, seed -> (views, text)."""
    return make_inputs
