"""The whole of MRSNet at toy width: what every switch does, what reaches what, and the paper's size."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from rrsis_bench.models import mrsnet
from rrsis_bench.models.mrsnet import MRSNet
from rrsis_bench.models.mrsnet.hfim import HFIM
from rrsis_bench.models.mrsnet.ifim import IFIM
from torch import Tensor

from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT, SIDE, SWIN, TOKENS
from tests.fakes.config import RANDOM_WEIGHTS, model_args

from .conftest import make_inputs

NARROW = {**SWIN, "embed_dim": 8, "num_heads": [1, 1, 2, 2]}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "psr alone": {"csr": False},
    "csr alone": {"psr": False},
    "neither": {"psr": False, "csr": False},
    "positions": {"psr_softmax": "positions"},
    "all channels": {"hfim_reduce": False},
}


def build(**overrides: Any) -> MRSNet:
    """The tiny model, the same weights every time."""
    torch.manual_seed(0)
    given = {"views": {"image": SIDE}, "max_tokens": TOKENS, "vision": NARROW, "text": BERT}
    return MRSNet(**model_args("mrsnet", **{**given, **overrides}))


def parameters_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def logits_of(model: MRSNet, samples: int = 2) -> Tensor:
    with torch.no_grad():
        return model.eval()(*make_inputs(samples)).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_all_of_its_parameters(variant) -> None:
    model = build(**VARIANTS[variant])
    output = model(*make_inputs(2))
    output.logits.square().mean().backward()
    assert output.logits.shape == (2, SIDE // 4, SIDE // 4)
    assert output.logits.std() > 1e-3
    dead = [name for name, value in model.named_parameters() if value.grad is None]
    assert dead == [f"stages.{stage}.cma.attention.out.bias" for stage in range(4)]
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "full"])
def test_every_switch_changes_the_number_of_parameters(variant) -> None:
    plain, switched = (parameters_of(build(**VARIANTS[name])) for name in ("full", variant))
    if variant == "all channels":
        assert switched > 2 * plain
    else:
        assert switched < plain


@pytest.mark.parametrize("part", ["psr", "csr"])
def test_each_part_of_table_3_changes_the_output_at_equal_weights(part) -> None:
    """Taking a part away equals giving it nothing to say: its map 0, and its rows of the gates gone."""
    full, without = build().double(), build(**{part: False}).double()
    tensors = {name: value for name, value in full.state_dict().items() if f".{part}." not in name}
    for index, width in enumerate(full.backbone.widths):
        kept = torch.arange(3 * width).view(3, width)[[row for row in range(3) if row != ("psr", "csr").index(part)]]
        gate = f"stages.{index}.fusion.gate"
        tensors[f"{gate}.weight"] = tensors[f"{gate}.weight"][kept.flatten()][:, kept.flatten()]
        tensors[f"{gate}.bias"] = tensors[f"{gate}.bias"][kept.flatten()]
    without.load_state_dict(tensors)
    before, wanted = logits_of(full), logits_of(without)
    assert (before - wanted).abs().max() > 1e-4
    for stage in full.stages:
        getattr(stage, part).register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
    assert torch.allclose(logits_of(full), wanted, rtol=0, atol=1e-10)


def test_the_softmax_axis_changes_the_output_at_equal_weights() -> None:
    channels, positions = build().double(), build(psr_softmax="positions").double()
    missing, unexpected = positions.load_state_dict(channels.state_dict(), strict=False)
    assert not missing
    assert all(name.endswith("spectral.bias") for name in unexpected)
    assert len(unexpected) == 12
    assert (logits_of(channels) - logits_of(positions)).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"psr_softmax": "frequencies"}, "psr_softmax"), ({"psr": False, "psr_softmax": "positions"}, "psr_softmax")],
    ids=str,
)
def test_wrong_and_idle_values_are_refused(wrong, field) -> None:
    with pytest.raises(UserError, match=rf"model\.args\.{field}\b"):
        build(**wrong)


def test_widths_that_the_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="8 heads do not divide"):
        build(vision={**NARROW, "embed_dim": 12})


def test_the_next_stage_gets_the_refined_map_on_top_of_the_stage_and_the_neck_gets_it_alone() -> None:
    model = build().eval()
    into_stage, out_of_stage, refined, into_neck = [], [], [], []
    for layer, stage in zip(model.backbone.layers, model.stages, strict=True):
        layer.register_forward_hook(
            lambda _, args, out: (into_stage.append(args[0]), out_of_stage.append(out), None)[-1]
        )
        stage.register_forward_hook(lambda *call: refined.append(call[-1]))
    model.hfim.register_forward_pre_hook(lambda _, args: into_neck.extend(args[0]))
    logits_of(model)
    for index, norm in enumerate(model.norms):
        assert torch.allclose(into_neck[index], norm(refined[index]).permute(0, 3, 1, 2), atol=1e-6)
        if index:
            assert into_stage[index].equal(out_of_stage[index - 1] + refined[index - 1])


def test_gradients_stay_finite_under_bf16_autocast() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*make_inputs(2)).logits
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


def test_a_black_picture_and_a_white_one_train() -> None:
    """Flat pictures leave most of the spectra at zero, where a phase has no derivative."""
    model, (views, text) = build(), make_inputs(2)
    views["image"][0], views["image"][1] = 0, 255
    model(views, text).logits.square().mean().backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


def test_norms_of_the_encoder_alone_carry_no_weight_decay() -> None:
    model = build()
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"norms.3.bias", "backbone.layers.1.downsample.norm.weight"} <= spared
    assert all(name.startswith(("norms.", "backbone.")) for name in spared)


def test_parameters_at_paper_size_are_those_of_the_header() -> None:
    widths = [128, 256, 512, 1024]
    with torch.device("meta"):
        model = MRSNet(**model_args("mrsnet", *RANDOM_WEIGHTS))
        kept = {
            part: sum(parameters_of(IFIM(width, 768, **{part: False})) for width in widths) for part in ("psr", "csr")
        }
        literal = HFIM(widths, reduce=False)
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[2] if name.startswith("stages.") else name.split(".")[0]
        part = "fusion" if part == "norms" else part
        parts[part] = parts.get(part, 0) + parameter.numel()
    assert parts == {
        "backbone": 86_876_536,
        "text_encoder": 108_891_648,
        "psr": 58_510_080,
        "csr": 13_930_240,
        "cma": 8_538_120,
        "fusion": 13_937_920,
        "hfim": 46_882_048,
        "decoder": 20_670_981,
    }
    assert sum(parts.values()) == 358_237_573
    without = [parameters_of(model) - parameters_of(model.stages) + count for count in kept.values()]
    header = re.sub(r" +", " ", mrsnet.__doc__ or "")
    for figure in (*parts.values(), sum(parts.values()), *without):
        assert f" {figure / 1e6:.3f}\n" in header
    assert literal.parts == [8192, 4096, 2048, 1024]
    in_all = parameters_of(model) - parameters_of(model.hfim) + parameters_of(literal)
    assert f"{in_all / 1e9:.1f} billion parameters" in header
    assert model.hfim.parts == widths
    assert model.backbone.sides == (120, 60, 30, 15)


@pytest.mark.slow
def test_forward_and_backward_at_paper_size() -> None:
    model = MRSNet(**model_args("mrsnet", *RANDOM_WEIGHTS))
    assert model.views == {"image": 480}
    image = torch.randint(0, 256, (1, 3, 480, 480), dtype=torch.uint8)
    words = torch.randint(1, 30000, (1, 20))
    logits = model({"image": image}, {"input_ids": words, "attention_mask": torch.ones_like(words)}).logits
    assert logits.shape == (1, 120, 120)
    assert logits.isfinite().all()
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("attention.out.bias"):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
