"""The whole of CSINet at toy width: the harness's contract, every switch, and the paper's size."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from rrsis_bench.models import csinet
from rrsis_bench.models.csinet import CSINet
from rrsis_bench.models.csinet.views import Views
from torch import Tensor, nn

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT, SWIN, TOKENS
from tests.fakes.config import RANDOM_WEIGHTS, model_args

SIDE = 128  # of the close view
BOTH = {"close": 128, "remote": 64}
# What an InstanceNorm behind it takes away again.
NORMALISED_AWAY = r".*attention\.out\.bias$"
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "three": {"n_view": 3, "close_size": 144},
    "only_close": {"interaction": "only_close"},
    "only_remote": {"interaction": "only_remote"},
    "remote_to_close": {"interaction": "remote_to_close"},
    "close_to_remote": {"interaction": "close_to_remote"},
    "pwam": {"fusion": "pwam"},
    "iim": {"fusion": "iim"},
    "sum": {"fusion": "sum"},
    "no_gate": {"gate": False},
    "arc": {"decoder": "arc"},
    "no_cda": {"cda": False},
    "no_skip": {"skip": False},
    "one_stage": {"decoder_stages": 1},
}


def build(**overrides: Any) -> CSINet:
    """The tiny model, the same weights every time."""
    torch.manual_seed(0)
    given = {"close_size": SIDE, "max_tokens": TOKENS, "vision": SWIN, "text": BERT, "cmp_width": None}
    return CSINet(**model_args("csinet", **{**given, **overrides}))


def inputs_of(model: CSINet, samples: int = 2) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Views and text of a batch; every sample has another length."""
    generator = torch.Generator().manual_seed(0)
    views = {
        name: torch.randint(0, 256, (samples, 3, side, side), dtype=torch.uint8, generator=generator)
        for name, side in model.views.items()
    }
    ids = torch.randint(1, BERT["vocab_size"], (samples, TOKENS), generator=generator)
    mask = torch.stack([(torch.arange(TOKENS) < TOKENS - row % 4).long() for row in range(samples)])
    return views, {"input_ids": ids, "attention_mask": mask}


def parameters_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def model(request: pytest.FixtureRequest) -> CSINet:
    """One variant, by name."""
    return build(**VARIANTS[request.param])


@pytest.mark.parametrize("model", VARIANTS, indirect=True)
def test_logits_gradients_and_rows_without_words(model) -> None:
    """Finite maps at a quarter of the finest view; every parameter learns but those that a norm makes void."""
    views, text = inputs_of(model, 3)
    text["attention_mask"][1] = 0
    logits = model(views, text).logits
    if len(getattr(model.decoder, "steps", ())) == 3:
        side = max(model.views.values()) // 4
        assert logits.shape == (3, side, side)
    assert torch.isfinite(logits).all()
    logits.square().mean().backward()
    grads = {name: value.grad for name, value in model.named_parameters()}
    assert all(torch.isfinite(grad).all() for grad in grads.values() if grad is not None)
    dead = {name for name, grad in grads.items() if grad is None}
    assert dead == {name for name in grads if re.match(NORMALISED_AWAY, name)}
    # A map of one position has one score per window, whatever the table says; the RepBlock's last inner unit scales a
    # one-channel map that a BatchNorm rescales, which leaves rounding.
    still = {name for name, grad in grads.items() if grad is not None and not grad.any()}
    assert not {name for name in still if not re.search(r"relative_position_bias_table|repblock", name)}


@pytest.mark.parametrize("model", ["only_close", "only_remote", "iim", "arc"], indirect=True)
def test_a_sample_does_not_see_its_neighbours(model) -> None:
    model = model.double().eval()
    views, text = inputs_of(model, 3)
    with torch.no_grad():
        together = model(views, text).logits
        alone = model(
            {name: view[[1]] for name, view in views.items()}, {key: value[[1]] for key, value in text.items()}
        ).logits
    assert torch.allclose(together[[1]], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", ["only_close", "only_remote", "iim", "arc"], indirect=True)
def test_views_words_and_nothing_else_matter(model) -> None:
    model = model.double().eval()
    views, text = inputs_of(model)
    padded = text["input_ids"].where(text["attention_mask"] == 1, BERT["vocab_size"] - text["input_ids"])
    assert not padded.equal(text["input_ids"])
    with torch.no_grad():
        before = model(views, text).logits
        assert (before - model(views, {**text, "input_ids": padded}).logits).abs().max() < 1e-10
        assert (before - model(views, {**text, "input_ids": text["input_ids"].flip(1)}).logits).abs().max() > 1e-6
        for name, view in views.items():
            changed = model({**views, name: view.flip(0)}, text).logits
            assert (before - changed).abs().max() > 1e-5, name


def test_weight_decay_spares_norms_and_tables() -> None:
    model = build()
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert "backbone.layers.1.blocks.1.attn.relative_position_bias_table" in spared
    assert "decoder.attention.remote.rows.norm.weight" in spared
    assert not any(name.startswith(("text_encoder.", "stages.", "decoder.steps.", "prediction.")) for name in spared)


@pytest.mark.parametrize(
    ("switch", "views"),
    [
        ({}, BOTH),
        ({"n_view": 1}, {"close": 128, "remote": 128}),
        ({"n_view": 4}, {"close": 128, "remote": 32}),
        ({"interaction": "only_close"}, {"close": 128}),
        ({"interaction": "only_remote"}, {"remote": 64}),
        ({"interaction": "remote_to_close"}, BOTH),
    ],
    ids=str,
)
def test_the_views_that_the_model_asks_for_the_close_one_first(switch, views) -> None:
    assert list(build(**switch).views.items()) == list(views.items())


def test_a_model_of_one_view_has_no_module_of_the_other() -> None:
    for alone, other in (("remote", "close"), ("close", "remote")):
        model = build(interaction=f"only_{alone}")
        names = [name for name, _ in model.named_modules()]
        assert any(alone in name.split(".") for name in names)
        assert not any(other in name.split(".") or "exchange" in name.split(".") for name in names)


@pytest.mark.parametrize(
    ("switch", "same_weights"),
    [
        ({"n_view": 4}, False),
        ({"interaction": "only_close"}, False),
        ({"interaction": "only_remote"}, False),
        ({"interaction": "remote_to_close"}, True),
        ({"interaction": "close_to_remote"}, True),
        ({"fusion": "pwam"}, False),
        ({"fusion": "iim"}, False),
        ({"fusion": "sum"}, True),
        ({"gate": False}, True),
        ({"share_language": "all"}, False),
        ({"share_language": "none"}, False),
        ({"decoder": "arc"}, False),
        ({"cda": False}, True),
        ({"skip": False}, False),
        ({"decoder_stages": 3}, True),
        ({"decoder_stages": 2}, True),
        ({"decoder_stages": 1}, False),
        ({"slice_size": 3}, True),
        ({"slice_size": 4}, True),
        ({"slice_size": 6}, True),
        ({"mask_padding": True}, True),
        ({"cmp_width": 24}, False),
    ],
    ids=str,
)
def test_every_switch_does_something(switch, same_weights) -> None:
    """Another parameter count; or another output from the same weights, as far as the switched model has them."""
    plain, switched = build().eval(), build(**switch).eval()
    if not same_weights:
        assert parameters_of(switched) != parameters_of(plain)
        return
    missing, _ = switched.load_state_dict(plain.state_dict(), strict=False)
    assert not missing
    with torch.no_grad():
        before, after = (model(*inputs_of(model)).logits for model in (plain, switched))
    assert before.shape != after.shape or (before - after).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("interaction", "reached"),
    [
        ("both", {"remote", "close"}),
        ("remote_to_close", {"close"}),
        ("close_to_remote", {"remote"}),
    ],
)
@pytest.mark.parametrize("fusion", ["cvwin", "sum"])
def test_the_directions_of_the_exchange(interaction, reached, fusion) -> None:
    """A stage hands a view on with news from the other one, exactly where the direction is there."""
    model = build(interaction=interaction, fusion=fusion).eval()
    stage = model.stages[1]
    words, mask = torch.randn(1, TOKENS, BERT["hidden"]), torch.ones(1, TOKENS)
    maps = {"remote": torch.randn(1, 8, 8, 32), "close": torch.randn(1, 16, 16, 32)}
    with torch.no_grad():
        before = stage(Views(**maps), words, mask)
        for name, other in (("remote", "close"), ("close", "remote")):
            after = stage(Views(**{**maps, other: maps[other].flip(1)}), words, mask)
            assert (not getattr(before, name).equal(getattr(after, name))) == (name in reached)


def test_the_integration_starts_as_asked() -> None:
    for start, kept in (("identity", True), ("random", False)):
        for stage in build(integration_start=start).stages:
            for direction in (stage.exchange.to_remote, stage.exchange.to_close):
                dim = len(direction.integrate.weight)
                assert direction.integrate.weight[:, :dim].equal(torch.eye(dim)) == kept


def test_positions_of_the_close_view_span_the_scene() -> None:
    """With sine positions, the same patch in two corners of the close view is embedded differently."""
    model = build(vision={**SWIN, "positions": "sine"}).eval()
    views = {name: torch.full((1, 3, side, side), 90, dtype=torch.uint8) for name, side in model.views.items()}
    with torch.no_grad():
        remote, *patches = model._embed(views)
    assert not torch.allclose(patches[0], patches[3])
    # Neighbouring pairs of close positions surround the remote position that covers them.
    whole = torch.cat([torch.cat(patches[:2], dim=1), torch.cat(patches[2:], dim=1)])
    pooled = whole.view(16, 2, 16, 2, -1).mean((1, 3))
    assert (pooled - remote).abs().max() < 0.1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"interaction": "none"}, "interaction"),
        ({"fusion": "cvwim"}, "fusion"),
        ({"decoder": "cda"}, "decoder"),
        ({"n_view": 0}, "n_view"),
        ({"close_size": 130}, "close_size"),
        ({"close_size": 128, "n_view": 3}, "close_size"),
        ({"decoder_stages": 0}, "decoder_stages"),
        ({"decoder_stages": 5}, "decoder_stages"),
        ({"slice_size": 0}, "slice_size"),
        ({"fusion": "pwam", "interaction": "remote_to_close"}, "interaction"),
        ({"fusion": "iim", "gate": False}, "gate"),
        ({"fusion": "sum", "interaction": "only_close"}, "fusion"),
        ({"share_language": "both"}, "share_language"),
        ({"share_language": "none", "interaction": "only_close"}, "share_language"),
        ({"share_language": "all", "fusion": "iim"}, "share_language"),
        ({"integration_start": "zero"}, "integration_start"),
        ({"decoder": "arc", "cda": False}, "cda"),
        ({"decoder": "arc", "skip": False}, "skip"),
        ({"decoder": "arc", "decoder_stages": 3}, "decoder_stages"),
        ({"cda": False, "slice_size": 3}, "slice_size"),
        ({"cda": False, "mask_padding": True}, "mask_padding"),
        ({"decoder_stages": 1, "skip": False}, "skip"),
        ({"decoder_stages": 1, "cmp_width": 24}, "cmp_width"),
    ],
    ids=str,
)
def test_wrong_and_contradictory_values_are_refused(wrong, field) -> None:
    with pytest.raises(UserError, match=rf"model\.args\.{field}\b"):
        build(**wrong)


SMALL = {"embed_dim": 96, "num_heads": (3, 6, 12, 24), "window": 7}


@pytest.mark.parametrize(("swin", "printed"), [("swin_b", 278.4), ("swin_s", 194.4)])
def test_parameters_at_paper_size(swin, printed) -> None:
    """Within 10% of Table X without BERT's word embeddings, and what the header's table says to the digit."""
    with torch.device("meta"):
        model = CSINet(**model_args("csinet", f"vision={swin}", *RANDOM_WEIGHTS))
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        if "word_embeddings" in name:
            part = "words"
        elif part == "stages":
            part = name.split(".")[2]
        elif name.startswith("decoder.attention."):
            part = "attention"
        parts[part] = parts.get(part, 0) + parameter.numel()
    counted = (sum(parts.values()) - parts.pop("words")) / 1e6
    assert abs(counted / printed - 1) < 0.1
    parts["decoder"] += parts.pop("prediction")
    header = csinet.__doc__
    for figure in (*parts.values(), counted * 1e6):
        assert f"{figure / 1e6:.3f}" in header


COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
SQUARES, PROJECTIONS = {"swin_b": 1.392640, "swin_s": 0.783360}, {"swin_b": 1.474560, "swin_s": 1.105920}


def counted_as_table_10(module: nn.Module) -> float:
    """Millions of parameters of layers alone: no embeddings, bare parameters or position tables."""
    layers = [layer for layer in module.modules() if isinstance(layer, COUNTED)]
    return sum(value.numel() for layer in layers for value in layer.parameters(recurse=False)) / 1e6


def test_the_counting_rule_of_table_10_gives_rmsins_printed_size_and_two_word_projections() -> None:
    """The rule is checked on RMSIN; then CSINet's two printed sizes are solved for widths squared and projections."""
    with torch.device("meta"):
        rmsin = registry.load_class("rmsin")(**model_args("rmsin", *RANDOM_WEIGHTS))
    assert counted_as_table_10(rmsin) == pytest.approx(208.925, abs=5e-4)  # printed: 208.9
    left = {}
    for swin, printed, here in (("swin_b", 278.4, 259.049), ("swin_s", 194.4, 183.522)):
        with torch.device("meta"):
            model = CSINet(**model_args("csinet", f"vision={swin}", *RANDOM_WEIGHTS))
        assert counted_as_table_10(model) == pytest.approx(here, abs=5e-4)
        left[swin] = printed - counted_as_table_10(model.backbone) - counted_as_table_10(model.text_encoder)
        unexplained = (printed - here) / SQUARES[swin]
        assert unexplained == pytest.approx(13.9, abs=0.1)
    system = torch.tensor([[SQUARES[swin], PROJECTIONS[swin]] for swin in left], dtype=torch.float64)
    squares, projections = torch.linalg.solve(system, torch.tensor(list(left.values()), dtype=torch.float64)).tolist()
    assert squares == pytest.approx(74.5, abs=0.1)
    assert projections == pytest.approx(2.0, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("swin", ["swin_b", "swin_s"])
def test_forward_at_paper_size(swin) -> None:
    model = CSINet(**model_args("csinet", f"vision={swin}", *RANDOM_WEIGHTS)).eval()
    assert model.views == {"remote": 384, "close": 768}
    with torch.no_grad():
        logits = model(*inputs_of(model, 1)).logits
    assert logits.shape == (1, 192, 192)
    assert torch.isfinite(logits).all()
