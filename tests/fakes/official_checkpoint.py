"""Checkpoints with the keys and shapes of the released ones, filled with reproducible noise.

The released weights are hundreds of megabytes, so the tests rebuild files of the same layout: each tensor is drawn from
a generator seeded by the CRC-32 of its key. ``tests/golden/expected_<model>.npz`` holds what the authors' own code
computed in float64 with exactly these weights, on inputs stored beside it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden"


Shapes = dict[str, dict[str, list[int]]]  # "float" or "integer" -> key -> shape


def official_shapes(model: str) -> Shapes:
    """Keys and shapes of the released file."""
    return json.loads((GOLDEN / f"{model}_keys.json").read_text())


def official_state_dict(model: str, seed: int, shapes: Shapes | None = None) -> dict[str, Tensor]:
    """The state dict of `model` with its authors' names, in full size or with other `shapes`."""
    shapes = shapes or official_shapes(model)
    tensors = {key: noise(key, shape, seed) for key, shape in shapes["float"].items()}
    return tensors | {key: integers(key, shape) for key, shape in shapes["integer"].items()}


# Overrides of the models that `small_shapes` belong to.
SMALL = (
    "size.image=96", "vision.embed_dim=16", "vision.depths=[2,2,2,2]", "vision.window=3", "vision.drop_path=0.0",
    "text.hidden=96", "text.layers=2", "text.intermediate=384", "text.vocab_size=3815", "text.max_positions=64",
)  # fmt: skip


def small_shapes(model: str) -> Shapes:
    """The released keys with an eighth of every width, two blocks per Swin stage, two BERT layers and window 3."""

    def shrink(key: str, shape: list[int]) -> list[int]:
        if key.endswith("relative_position_bias_table"):
            return [25, shape[1]]
        if key.endswith("relative_position_index"):
            return [9, 9]
        if key.endswith(("attention.proj.weight", "attention.proj.bias")):
            return [9, 14][: len(shape)]  # RMSIN's tokens at 96 pixels: 3 x 3 of 3 x 3 + 2 x 2 + 1
        return [side // 8 if side >= 16 else side for side in shape]

    deep = re.compile(r"(blocks|encoder\.layer)\.([2-9]|1\d)\.")
    return {
        kind: {key: shrink(key, shape) for key, shape in keys.items() if not deep.search(key)}
        for kind, keys in official_shapes(model).items()
    }


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """In the block, models are built without drawing their first weights, which a strict file replaces anyway."""

    def kept(tensor: Tensor, *_: object, **__: object) -> Tensor:
        return tensor

    with patch.object(Tensor, "uniform_", kept), patch.object(Tensor, "normal_", kept):
        yield


def noise(key: str, shape: list[int], seed: int) -> Tensor:
    """Float32 noise that depends on the key, the shape and the seed only; scaled so that signals keep their size."""
    generator = torch.Generator().manual_seed((zlib.crc32(key.encode()) + seed) % 2**31)
    if key.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    normal = torch.randn(shape, generator=generator)
    if key.endswith("running_mean"):
        return 0.1 * normal
    if len(shape) > 1:
        return normal / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.1 * normal if key.endswith("weight") else 0.02 * normal


def integers(key: str, shape: list[int]) -> Tensor:
    """The integer buffers: Swin's relative position index, BERT's position ids, BatchNorm's counters."""
    if key.endswith("relative_position_index"):
        window = math.isqrt(shape[0])
        row, col = torch.arange(window**2) // window, torch.arange(window**2) % window
        rows, cols = (at[:, None] - at[None] + window - 1 for at in (row, col))
        return rows * (2 * window - 1) + cols
    if key.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).clone()
    return torch.zeros(shape, dtype=torch.long)
