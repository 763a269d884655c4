"""Authors' files of the Swin and BERT systems, rebuilt from their keys and filled with reproducible noise."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.interfaces import Segmenter
from rrsis_bench.official import load_official
from tests.fakes.config import RANDOM_WEIGHTS, model_args
from tests.fakes.official_checkpoint import GOLDEN, Shapes, integers, noise, nothing_drawn

ZOO = GOLDEN / "zoo"
NATIVE = "RRSIS_PARITY"
"""Environment variable: the folder with ``expected_<model>.npz`` at the native size."""

# The small configuration of the fixtures.
SMALL = (
    "size.image=160", "size.max_tokens=20", "vision.depths=[2,2,2,2]", "vision.window=4", "text.layers=2",
    *RANDOM_WEIGHTS,
)  # fmt: skip
MORE_SMALL = {
    "caris": ("size.image=224", "vision.window=7", "text.layers=12"),
    "crossvlt": ("text.layers=6", "size.max_tokens=21"),
}
ENTRY = {"cgformer": "model_state_dict"}  # of the weights, where it is not "model"
PARTS = {"dmmi": {"bert_model": "text_encoder."}}  # entries beside "model", and the prefix of their listed keys


def zoo_shapes(file: str) -> Shapes:
    """Keys and shapes of the authors' file, such as ``lscf`` or ``lscf_small``."""
    return json.loads((ZOO / f"{file}_keys.json").read_text())


def zoo_state_dict(file: str, seed: int) -> dict[str, Tensor]:
    """The authors' state dict with noise; FreqFusion's windows are true."""
    shapes = zoo_shapes(file)
    tensors = {
        key: window(shape[-1]) if "hamming" in key else noise(key, shape, seed)
        for key, shape in shapes["float"].items()
    }
    return tensors | {key: integers(key, shape) for key, shape in shapes["integer"].items()}


def window(side: int) -> Tensor:
    """The symmetric two-dimensional Hamming window (1, 1, side, side), float32."""
    steps = torch.arange(side, dtype=torch.float64)
    row = 0.54 - 0.46 * torch.cos(2 * torch.pi * steps / (side - 1))
    return torch.outer(row, row)[None, None].float()


def zoo_file(file: str, seed: int) -> dict[str, Any]:
    """What the authors' training script saves, without the optimiser."""
    name, tensors = file.removesuffix("_small"), zoo_state_dict(file, seed)
    content: dict[str, Any] = {"epoch": 0}
    for entry, prefix in PARTS.get(name, {}).items():
        content[entry] = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
    wrapped = "module." if name == "lscf" else ""
    if name == "lscf":
        content["previous_best"] = np.float64(0.0)  # a NumPy scalar, as the authors' script stores it
    return {ENTRY.get(name, "model"): {wrapped + key: value for key, value in tensors.items()}, **content}


def load_zoo(file: str, expected: dict[str, np.ndarray], folder: Path, **args: Any) -> Segmenter:
    """Write the authors' file and load it strictly."""
    path = folder / f"{file}.pth"
    torch.save(zoo_file(file, int(expected["weights_seed"])), path)
    name = file.removesuffix("_small")
    overrides = (*SMALL, *MORE_SMALL.get(name, ())) if file.endswith("_small") else ()
    without = patch("rrsis_bench.models.mafn.network.CIM", lambda *_: nn.Identity())  # as the fixture was made
    with without if file == "mafn_small" else nullcontext(), nothing_drawn():
        model = load_official(name, path, **model_args(name, *overrides, **args))
    path.unlink()
    if file == "caris_small":
        roll_every_stage(model)
    return model


def roll_every_stage(model: Segmenter) -> None:
    """Shift the windows of a map that is one window large, as the authors' Swin does and timm's does not."""
    for stage in model.backbone.layers:
        for block in stage.blocks[1::2]:
            block.shift_size = tuple(side // 2 for side in block.window_size)
            block.attn_mask = block.get_attn_mask()


def expected_outputs(file: str) -> dict[str, np.ndarray]:
    """What the authors' code computed. Native files come from the folder that `NATIVE` names; without it, skip."""
    folder = ZOO
    if not file.endswith("_small"):
        if NATIVE not in os.environ:
            pytest.skip(f"{NATIVE} names no folder with the native outputs")
        folder = Path(os.environ[NATIVE])
    return dict(np.load(folder / f"expected_{file}.npz"))


@torch.no_grad()
def full_logits(model: Segmenter, expected: dict[str, np.ndarray], *, align_corners: bool) -> Tensor:
    """Logits of the fixture's two inputs at the input's size, float64."""
    generator = torch.Generator().manual_seed(int(expected["image_seed"]))
    image = torch.randint(0, 256, tuple(expected["image_shape"]), dtype=torch.uint8, generator=generator)
    text = {key: torch.from_numpy(expected[key]) for key in ("input_ids", "attention_mask")}
    rows = [
        model({"image": image[[row]]}, {key: value[[row]] for key, value in text.items()}).logits.double()
        for row in range(len(image))
    ]
    size = image.shape[-2:]
    return F.interpolate(torch.cat(rows)[:, None], size, mode="bilinear", align_corners=align_corners)[:, 0]


def errors(logits: Tensor, expected: dict[str, np.ndarray]) -> list[float]:
    """Relative error per image."""
    wanted = torch.from_numpy(expected["logits_every_8th"])
    pairs = zip(logits[:, ::8, ::8], wanted, strict=True)
    return [float((got - one).norm() / (one - one.mean()).norm()) for got, one in pairs]
