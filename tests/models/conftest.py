"""Tiny models, tiny backbones, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import Segmenter
from tests.fakes.config import compose

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
WORDS = 200  # ids below this are in the vocabulary of every tiny model


def build_tiny(name: str, *overrides: str, **args: Any) -> Segmenter:
    """Build a registered model at ``size=tiny``, smaller still, with the same weights every time.

    Args:
        name: registry name.
        overrides: further configuration overrides.
        args: constructor arguments that replace composed ones.
    """
    cls = registry.load_class(name)
    small = ("size=tiny", f"size.image={SIDE}", f"size.max_tokens={TOKENS}", *cls.contract.tiny_overrides)
    composed = compose("data=synthetic", f"model={name}", *small, *overrides)
    torch.manual_seed(0)
    return cls(**{**composed["model"]["args"], **args})


def make_inputs(
    samples: int = 3, seed: int = 0, views: Mapping[str, int] | None = None, tokens: int = TOKENS
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Views and text of a batch; every sample has another length, object and position.

    Args:
        samples: B.
        seed: of images and ids.
        views: view name -> side; by default the views of every in-tree model at its tests' size.
        tokens: L.
    """
    views = views or {"image": SIDE, "close": SIDE, "remote": SIDE // 2, "clip": SIDE, "sam": SIDE}
    generator = torch.Generator().manual_seed(seed)
    images = {
        name: torch.randint(0, 256, (samples, 3, side, side), dtype=torch.uint8, generator=generator)
        for name, side in views.items()
    }
    ids = torch.randint(1, WORDS, (samples, tokens), generator=generator)
    masks = torch.zeros(4, samples, tokens, dtype=torch.int64)
    for row in range(samples):
        length = tokens - row % 4
        masks[0, row, :length] = 1
        masks[1, row, 1 + row % 3 : 3 + row % 3] = 1
        masks[2, row, 5 : 6 + row % 4] = 1
        masks[3, row, 1 : length - 1] = 1  # without the special tokens around the words
    text = dict(zip(("attention_mask", "object_mask", "position_mask", "word_mask"), masks, strict=True))
    return images, {"input_ids": ids, **text}
