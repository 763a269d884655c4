"""RMSIN as a whole: its size, the grids that it can be built for, what learns, and what every part does."""

from __future__ import annotations

import pytest
import torch
from rrsis_bench.models.rmsin import RMSIN

from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT, SWIN, TOKENS
from tests.fakes.config import RANDOM_WEIGHTS, model_args
from tests.fakes.official_checkpoint import official_shapes


def build(side: int = 64) -> RMSIN:
    torch.manual_seed(0)
    return RMSIN(views={"image": side}, max_tokens=TOKENS, vision=SWIN, text=BERT, decoder_width=None)


def make_inputs(samples: int, side: int = 64):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (samples, 3, side, side), dtype=torch.uint8, generator=generator)
    ids = torch.randint(1, BERT["vocab_size"], (samples, TOKENS), generator=generator)
    mask = (torch.arange(TOKENS) < TOKENS - torch.arange(samples)[:, None] % 4).long()
    return {"image": image}, {"input_ids": ids, "attention_mask": mask}


def test_the_paper_size_counts_parameters_and_no_buffers() -> None:
    with torch.device("meta"):
        model = RMSIN(**model_args("rmsin", *RANDOM_WEIGHTS))
    assert sum(parameter.numel() for parameter in model.parameters()) == 240_037_163
    trained = {key: shape for key, shape in official_shapes("rmsin")["float"].items() if ".running_" not in key}
    assert sum(torch.Size(shape).numel() for shape in trained.values()) == 240_037_163
    assert model.cim.side == 15


@pytest.mark.parametrize(("side", "grid"), [(64, 2), (75, 3), (128, 4), (150, 5)])
def test_every_grid_trains_and_a_sample_does_not_see_its_neighbours(side: int, grid: int) -> None:
    model = build(side).double()
    assert model.cim.side == grid
    views, text = make_inputs(3, side)
    model(views, text).logits.square().mean().backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)
    model.eval()
    with torch.no_grad():
        together = model(views, text).logits
        for row in range(3):
            alone = model({"image": views["image"][[row]]}, {key: value[[row]] for key, value in text.items()}).logits
            assert torch.allclose(together[[row]], alone, rtol=0, atol=1e-10)
    assert together.shape == (3, -(-side // 4), -(-side // 4))
    assert together.std() > 1e-3


def test_views_of_another_size_are_refused() -> None:
    model = build(75).eval()
    with torch.no_grad(), pytest.raises(UserError, match="3 x 3 positions and got 2 x 2.*one image size"):
        model(*make_inputs(1, 64))


@pytest.mark.parametrize(
    "name",
    [
        "stages.0.repblock.second.spatial.weight",
        "stages.2.visual_gate.outer.weight",
        "cim.blocks.0.attention2.tokens.bias",
        "decoder.steps.2.conv2.routing.angle.weight",
        "decoder.steps.0.conv2.routing.gate.bias",
    ],
)
def test_every_part_reaches_the_output(name: str) -> None:
    model = build().double().eval()  # far beyond rounding, though some parts are faint at random weights
    with torch.no_grad():
        before = model(*make_inputs(2)).logits
        model.get_parameter(name).add_(0.5)
        assert (model(*make_inputs(2)).logits - before).abs().max() > 1e-7


def test_the_last_stage_hands_on_its_pwam_output_alone() -> None:
    model = build().eval()
    with torch.no_grad():
        before = model(*make_inputs(2)).logits
        for part in (model.stages[3].gate, model.stages[3].visual_gate):
            part.inner.weight.add_(1.0)
        assert model(*make_inputs(2)).logits.equal(before)


def test_norms_of_the_decoder_decay() -> None:
    """The authors spare norms of the encoder, fusion and neck alone; the rotated convolutions hold a norm as well."""
    model = build()
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert "norms.3.bias" in spared
    assert "backbone.layers.1.downsample.norm.weight" in spared
    assert "decoder.steps.0.conv2.routing.norm.weight" in model.state_dict()
    assert not any(name.startswith(("decoder.", "text_encoder.", "cim.", "stages.")) for name in spared)
