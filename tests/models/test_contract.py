"""What every model owes the harness, at toy width."""

from __future__ import annotations

import re

import pytest
import torch

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.eval.efficiency import measure

# Parameters that cannot learn, because nothing that they compute reaches the output: a bias that an InstanceNorm takes
# away again, and, with stage_output="pwam" (the authors' code), what follows the last stage's PWAM.
NORMALISED_AWAY = r".*attention\.out\.bias$"
DEAD = {
    "lavt": rf"stages\.3\.gate\.|{NORMALISED_AWAY}",
    "rmsin": rf"stages\.3\.(gate|visual_gate|repblock)\.|{NORMALISED_AWAY}",
    "csinet": r"(?!)",  # every parameter learns
    "mrsnet": NORMALISED_AWAY,
    "fianet": rf"stages\.3\.(context_gate|object|position|modulation)\.|{NORMALISED_AWAY}",
    # Parts of CLIP and SAM 2 that no mask depends on; both encoders freeze them.
    "sgsrf": r"clip\.(visual\.proj|text\.text_projection|logit_)|"
    r"sam2\.sam\.prompt_encoder\.(point|not_a_point|no_mask)_embed\.|"
    r"sam2\.sam\.mask_decoder\.(output_hypernetworks_mlps\.[123]|iou_prediction_head|pred_obj_score_head)\.",
}


def test_logits_are_finite_and_one_map_per_sample(name, tiny, inputs) -> None:
    model = tiny(name)
    output = model(*inputs(3))
    assert output.logits.shape == (3, 16, 16)
    assert torch.isfinite(output.logits).all()
    assert set(output.aux_losses) == ({"consistency"} if name == "sgsrf" else set())
    masks = model.eval().predict_masks(*inputs(3), sizes=[(80, 70), (64, 64), (33, 90)])
    assert [tuple(mask.shape) for mask in masks] == [(80, 70), (64, 64), (33, 90)]


def test_every_parameter_learns_but_the_named_ones(name, tiny, inputs) -> None:
    model = tiny(name)
    model(*inputs(3)).logits.square().mean().backward()
    dead = {parameter for parameter, value in model.named_parameters() if value.grad is None}
    assert dead == {parameter for parameter, _ in model.named_parameters() if re.match(DEAD[name], parameter)}
    assert dead or name == "csinet"


def test_fused_stage_output_leaves_go_embedding_dead(tiny, inputs) -> None:
    model = tiny("fianet", stage_output="fused", go_embedding=True)
    model(*inputs(3)).logits.square().mean().backward()
    dead = {parameter for parameter, value in model.named_parameters() if value.grad is None}
    expected = {f"stages.{stage}.object.go_embedding.weight" for stage in range(4)}
    assert {parameter for parameter in dead if not re.match(NORMALISED_AWAY, parameter)} == expected


def test_a_sample_does_not_see_its_neighbours(name, tiny, inputs) -> None:
    model = tiny(name).double().eval()
    views, text = inputs(4)
    with torch.no_grad():
        together = model(views, text).logits
        alone = [
            model(*({key: value[[row]] for key, value in part.items()} for part in (views, text))).logits
            for row in range(4)
        ]
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-10)


def test_language_and_image_both_matter(name, tiny, inputs) -> None:
    model = tiny(name).eval()
    views, text = inputs(2)
    with torch.no_grad():
        before = model(views, text).logits
        other_words = model(views, {**text, "input_ids": text["input_ids"].flip(1)}).logits
        other_image = model({view: pixels.flip(0) for view, pixels in views.items()}, text).logits
    assert (before - other_words).abs().max() > 1e-4
    assert (before - other_image).abs().max() > 1e-4


def test_padding_does_not_matter(name, tiny, inputs) -> None:
    if name == "sgsrf":
        pytest.skip("CLIP's text tower reads its padding, as in its training; what follows it: test_sgsrf_model.py")
    model = tiny(name).double().eval()
    views, text = inputs(4)
    padded = text["input_ids"].where(text["attention_mask"] == 1, 7)
    assert not padded.equal(text["input_ids"])
    with torch.no_grad():
        difference = model(views, text).logits - model(views, {**text, "input_ids": padded}).logits
    assert difference.abs().max() < 1e-10


def test_unknown_text_keys_are_ignored(name, tiny, inputs) -> None:
    model = tiny(name).eval()
    views, text = inputs(2)
    needed = {"input_ids", "attention_mask", *model.phrase_masks}
    with torch.no_grad():
        every = model(views, {**text, "category_ids": torch.zeros(2, 12, dtype=torch.int64)}).logits
        few = model(views, {key: value for key, value in text.items() if key in needed}).logits
    assert every.equal(few)


def test_phrases_matter_to_fianet_alone(name, tiny, inputs) -> None:
    model = tiny(name).eval()
    views, text = inputs(2)
    with torch.no_grad():
        before = model(views, text).logits
        for mask in ("object_mask", "position_mask"):
            after = model(views, {**text, mask: text[mask].roll(1, dims=1)}).logits
            assert before.equal(after) == (name != "fianet")


def test_fianet_hands_every_branch_its_own_phrase(tiny, inputs) -> None:
    """BERT sees the same ids under each mask, and every branch gets the words of its own."""
    model = tiny("fianet").eval()
    views, text = inputs(3)
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


def test_rows_without_any_word_stay_finite(name, tiny, inputs) -> None:
    model = tiny(name)
    views, text = inputs(3)
    for mask in ("attention_mask", "object_mask", "position_mask", "word_mask"):
        text[mask][1] = 0
    logits = model(views, text).logits
    logits.square().mean().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


def test_double_works_on_uint8_views_and_agrees_with_float(name, tiny, inputs) -> None:
    model = tiny(name).eval()
    with torch.no_grad():
        single = model(*inputs(2)).logits
        double = model.double()(*inputs(2)).logits
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, rtol=0, atol=1e-4)


def test_same_seed_same_numbers(name, tiny, inputs) -> None:
    first, second = (tiny(name) for _ in range(2))
    for model in (first, second):
        torch.manual_seed(1)  # dropout in a rotated decoder
        model(*inputs(2)).logits.square().mean().backward()
    for (parameter, one), (_, two) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert one.equal(two), parameter
        assert (one.grad is None and two.grad is None) or one.grad.equal(two.grad), parameter


def test_state_dict_round_trip(name, tiny, inputs) -> None:
    model = tiny(name).eval()
    other = tiny(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
        other.load_state_dict(model.state_dict())
        assert other(*inputs(2)).logits.equal(model(*inputs(2)).logits)


@pytest.mark.parametrize("name", ["lavt", "fianet", "rmsin", "mrsnet"])
def test_other_input_sizes(name, tiny) -> None:
    """A side that no patch, window or stage divides, at construction and afterwards (CSINet refuses it)."""
    model = tiny(name, views={"image": 75}).eval()
    text = {key: torch.ones(1, 12, dtype=torch.int64) for key in ("input_ids", "attention_mask", *model.phrase_masks)}
    sizes = [(75, 75, (1, 19, 19)), (90, 61, (1, 23, 16))]
    if name == "rmsin":  # its neck belongs to one grid: tests/models/test_rmsin.py
        del sizes[1]
    with torch.no_grad():
        for height, width, expected in sizes:
            image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
            logits = model({"image": image}, text).logits
            assert logits.shape == expected
            assert torch.isfinite(logits).all()


def test_weight_decay_follows_the_authors(name, tiny) -> None:
    model = tiny(name)
    spared = {parameter for parameter, _ in model.named_parameters() if model.no_weight_decay(parameter)}
    if name == "sgsrf":  # its paper names no exception
        assert not spared
        return
    assert "backbone.patch_embed.norm.weight" in spared
    assert "backbone.layers.1.blocks.1.attn.relative_position_bias_table" in spared
    assert "backbone.layers.2.downsample.norm.bias" in spared
    assert "norms.0.weight" in spared or name == "csinet"
    assert not any(parameter.startswith("text_encoder.") for parameter in spared)
    assert {parameter for parameter in spared if parameter.startswith("decoder.")} == {
        parameter
        for parameter, _ in model.named_parameters()
        if name == "csinet" and ".norm." in parameter and parameter.startswith("decoder.attention.")
    }
    assert not any(parameter.endswith(("qkv.weight", "proj.weight", "fc1.bias")) for parameter in spared)
    if name == "fianet":
        assert "tmem.blocks.0.norm1.weight" in spared
        assert "tmem.bn.weight" not in spared


def test_paper_defaults_are_the_paper_size(name) -> None:
    """The exact counts that the authors' code has (in parameters, not rounded); SGSRF's: test_sgsrf_model.py."""
    if name == "sgsrf":
        return
    cls = registry.load_class(name)
    random = {"swin": {"weights": "random"}, "bert": {"weights": "random"}}
    sizes = {
        "lavt": [({}, 227_739_514)],
        "rmsin": [({}, 240_037_163)],
        "csinet": [({}, 286_034_810)],
        "mrsnet": [({}, 358_237_573)],
        "fianet": [
            ({"num_tmem": 1, "go_embedding": True}, 251_918_706),
            ({"num_tmem": 3, "go_embedding": True}, 256_168_626),
            ({"num_tmem": 1}, 250_526_066),
            ({}, 254_775_986),
        ],
    }[name]
    for switches, expected in sizes:
        with torch.device("meta"):
            model = cls(**random, **switches)
        assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(
    "switch",
    [
        {"fiam": False},
        {"tmem": False},
        {"num_tmem": 1},
        {"channel_modulation": False},
        {"object_branch": False},
        {"position_branch": False},
        {"stage_output": "fused"},
        {"decoder_width": 24},
    ],
    ids=str,
)
def test_every_switch_of_fianet_does_something(switch, tiny, inputs) -> None:
    plain, switched = tiny("fianet").eval(), tiny("fianet", **switch).eval()
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (plain, switched)]
    if switch == {"stage_output": "fused"}:
        assert counts[0] == counts[1]
        with torch.no_grad():
            assert (plain(*inputs(2)).logits - switched(*inputs(2)).logits).abs().max() > 1e-4
    else:
        assert counts[1] < counts[0]
        assert torch.isfinite(switched(*inputs(2)).logits).all()


@pytest.mark.parametrize("branch", ["channel_modulation", "object_branch", "position_branch"])
def test_the_parts_of_fiam_change_the_output_at_equal_weights(branch, tiny, inputs) -> None:
    plain, switched = tiny("fianet").eval(), tiny("fianet", **{branch: False}).eval()
    missing, unexpected = switched.load_state_dict(plain.state_dict(), strict=False)
    assert not missing
    assert unexpected
    with torch.no_grad():
        assert (plain(*inputs(2)).logits - switched(*inputs(2)).logits).abs().max() > 1e-5


def test_fianet_without_its_parts_asks_for_no_phrases(tiny) -> None:
    assert tiny("fianet").phrase_masks == ("object_mask", "position_mask")
    assert tiny("fianet", object_branch=False).phrase_masks == ("position_mask",)
    assert tiny("fianet", position_branch=False).phrase_masks == ("object_mask",)
    assert tiny("fianet", fiam=False).phrase_masks == ()
    assert tiny("lavt").phrase_masks == ()


def test_fianet_without_fiam_and_tmem_is_lavt(tiny, inputs) -> None:
    """Table V's first row is LAVT, number for number."""
    lavt, fianet = tiny("lavt").eval(), tiny("fianet", fiam=False, tmem=False).eval()
    names = [key.replace(".context_gate.", ".gate.").replace(".context.", ".pwam.") for key in fianet.state_dict()]
    lavt.load_state_dict(dict(zip(names, fianet.state_dict().values(), strict=True)))
    with torch.no_grad():
        assert lavt(*inputs(2)).logits.equal(fianet(*inputs(2)).logits)


@pytest.mark.parametrize("wrong", [{"stage_output": "pwan"}, {"num_tmem": 0}], ids=str)
def test_wrong_switches_are_refused(wrong, tiny) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        tiny("fianet", **wrong)


def test_what_a_model_costs_can_be_measured(name, tiny) -> None:
    """A parameter that is a module's input, as SAM 2 has them, stopped the FLOP counter after hours of training."""
    model = tiny(name)
    asking = [parameter for parameter, value in model.named_parameters() if value.requires_grad]
    cost = measure(model, torch.device("cpu"), warmup=0, passes=1)
    assert cost.gflops > 0
    assert [parameter for parameter, value in model.named_parameters() if value.requires_grad] == asking
