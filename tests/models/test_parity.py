"""The models reproduce what their authors' own code computed, from a file with the authors' keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rrsis_bench.official import load_official
from tests.fakes.config import model_args
from tests.fakes.official_checkpoint import GOLDEN, nothing_drawn, official_state_dict

CASES = [
    pytest.param(("fianet", {"num_tmem": 3}), id="fianet"),  # ten seconds and 4 GB: one of the family runs every time
    pytest.param(("lavt", {}), id="lavt", marks=pytest.mark.slow),
    pytest.param(("rmsin", {}), id="rmsin", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    name, args = request.param
    path: Path = tmp_path_factory.mktemp("official") / f"{name}.pth"
    expected = dict(np.load(GOLDEN / f"expected_{name}.npz"))
    torch.save({"model": official_state_dict(name, int(expected["weights_seed"])), "epoch": 0}, path)
    with nothing_drawn():
        model = load_official(name, path, **model_args(name, **args))
    path.unlink()
    return model, expected


def run(model, expected) -> tuple[float, torch.Tensor]:
    """The relative error that the golden files are held to, and the full map."""
    generator = torch.Generator().manual_seed(int(expected["image_seed"]))
    image = torch.randint(0, 256, tuple(expected["image_shape"]), dtype=torch.uint8, generator=generator)
    names = ("input_ids", "attention_mask", "object_mask", "position_mask")
    text = {key: torch.from_numpy(expected[key]) for key in names if key in expected}
    with torch.no_grad():
        logits = model({"image": image}, text).logits.double()
    logits = F.interpolate(logits[:, None], image.shape[-2:], mode="bilinear", align_corners=True)[:, 0]
    wanted = torch.from_numpy(expected["logits_every_8th"])
    got = logits[:, ::8, ::8]
    return float((got - wanted).norm() / (wanted - wanted.mean()).norm()), logits


def test_float32_then_float64(case) -> None:
    model, expected = case
    error32, _ = run(model, expected)
    assert error32 <= 1e-2
    error64, logits = run(model.double(), expected)
    assert error64 <= 1e-5
    assert float(logits.mean()) == pytest.approx(float(expected["logits_mean"]), abs=1e-6)
    assert float(logits.std(correction=0)) == pytest.approx(float(expected["logits_std"]), rel=1e-4)
    assert int((logits > 0).sum()) == int(expected["foreground_pixels"].sum())
    print(f"float32 {error32:.2e}, float64 {error64:.2e}")  # shown with -s
