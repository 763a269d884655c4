"""FIANet: the phrases of every branch, the switches of Tables V and VI, and the relation to LAVT."""

from __future__ import annotations

import re

import pytest
import torch
from rrsis_bench.models.fianet import FIANet

from rrsis_bench.errors import UserError
from tests.fakes.config import RANDOM_WEIGHTS, model_args

from .conftest import build_tiny, make_inputs


def build(**args) -> FIANet:
    model = build_tiny("fianet", **args)
    assert isinstance(model, FIANet)
    return model


def parameters_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_fused_stage_output_leaves_go_embedding_dead() -> None:
    model = build(stage_output="fused", go_embedding=True)
    model(*make_inputs(3)).logits.square().mean().backward()
    dead = {parameter for parameter, value in model.named_parameters() if value.grad is None}
    expected = {f"stages.{stage}.object.go_embedding.weight" for stage in range(4)}
    assert {parameter for parameter in dead if not re.match(r".*attention\.out\.bias$", parameter)} == expected


def test_every_branch_gets_its_own_phrase() -> None:
    """BERT encodes the same ids under each mask, and every branch gets the words of its own mask."""
    model = build().eval()
    views, text = make_inputs(3)
    seen = {}
    for stage, parts in enumerate(model.stages):
        for part in ("object", "position"):
            name = f"{part}_mask", stage
            getattr(parts, part).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[1]}))
    with torch.no_grad():
        model(views, text)
        assert len(seen) == 8
        for (mask, stage), phrase in seen.items():
            assert phrase.mask_BL.equal(text[mask]), stage
            wanted = model.text_encoder(text["input_ids"], text[mask])
            assert torch.allclose(phrase.words_BLD, wanted, atol=1e-5), stage


def test_weight_decay_follows_the_authors() -> None:
    model = build()
    spared = {parameter for parameter, _ in model.named_parameters() if model.no_weight_decay(parameter)}
    assert {
        "backbone.patch_embed.norm.weight",
        "backbone.layers.1.blocks.1.attn.relative_position_bias_table",
        "backbone.layers.2.downsample.norm.bias",
        "norms.0.weight",
        "tmem.blocks.0.norm1.weight",
    } <= spared
    assert not any(parameter.startswith(("text_encoder.", "decoder.", "tmem.bn.")) for parameter in spared)
    assert not any(parameter.endswith(("qkv.weight", "proj.weight", "fc1.bias")) for parameter in spared)


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({"num_tmem": 1, "go_embedding": True}, 251_918_706),
        ({"num_tmem": 3, "go_embedding": True}, 256_168_626),
        ({"num_tmem": 1}, 250_526_066),
        ({}, 254_775_986),
    ],
    ids=str,
)
def test_parameters_at_paper_size(switches, expected) -> None:
    with torch.device("meta"):
        assert parameters_of(FIANet(**model_args("fianet", *RANDOM_WEIGHTS, **switches))) == expected


@pytest.mark.parametrize(
    "switch",
    [
        {"fiam": False},
        {"neck": "none"},
        {"num_tmem": 1},
        {"channel_modulation": False},
        {"object_branch": False},
        {"position_branch": False},
        {"stage_output": "fused"},
        {"decoder_width": 24},
    ],
    ids=str,
)
def test_every_switch_does_something(switch) -> None:
    plain, switched = build().eval(), build(**switch).eval()
    if switch == {"stage_output": "fused"}:
        assert parameters_of(switched) == parameters_of(plain)
        with torch.no_grad():
            assert (plain(*make_inputs(2)).logits - switched(*make_inputs(2)).logits).abs().max() > 1e-4
    else:
        assert parameters_of(switched) < parameters_of(plain)
        assert torch.isfinite(switched(*make_inputs(2)).logits).all()


@pytest.mark.parametrize("branch", ["channel_modulation", "object_branch", "position_branch"])
def test_the_parts_of_fiam_change_the_output_at_equal_weights(branch) -> None:
    plain, switched = build().eval(), build(**{branch: False}).eval()
    missing, unexpected = switched.load_state_dict(plain.state_dict(), strict=False)
    assert not missing
    assert unexpected
    with torch.no_grad():
        assert (plain(*make_inputs(2)).logits - switched(*make_inputs(2)).logits).abs().max() > 1e-5


def test_without_its_parts_the_model_asks_for_no_phrases() -> None:
    assert build().phrase_masks == ("object_mask", "position_mask")
    assert build(object_branch=False).phrase_masks == ("position_mask",)
    assert build(position_branch=False).phrase_masks == ("object_mask",)
    assert build(fiam=False).phrase_masks == ()


def test_without_fiam_and_tmem_it_is_lavt() -> None:
    """Table V's first row is LAVT, number for number."""
    lavt, fianet = build_tiny("lavt").eval(), build(fiam=False, neck="none").eval()
    names = [key.replace(".context_gate.", ".gate.").replace(".context.", ".pwam.") for key in fianet.state_dict()]
    lavt.load_state_dict(dict(zip(names, fianet.state_dict().values(), strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(lavt(*make_inputs(2)).logits, fianet(*make_inputs(2)).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage_output": "pwan"},
        {"num_tmem": 0},
        {"neck": "lgcd"},
        {"modulation_input": "both"},
        {"modulation_input": "fused", "channel_modulation": False},
    ],
    ids=str,
)
def test_wrong_switches_are_refused(wrong) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        build(**wrong)
