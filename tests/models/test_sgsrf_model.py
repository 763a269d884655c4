"""The whole of SGSRF at toy width: pads and special tokens, switches, what is trained, and the paper's size."""

from __future__ import annotations

import re
import resource
import time
from typing import Any

import pytest
import torch
from rrsis_bench.models import sgsrf
from rrsis_bench.models.sgsrf import SGSRF
from torch import Tensor

from rrsis_bench.errors import UserError
from tests.fakes.backbones import CLIP, SAM2, TOKENS
from tests.fakes.config import RANDOM_WEIGHTS, model_args

from .conftest import make_inputs

# The first row of Table 7 with its parts off, and other rows.
TEXT = {"prompts": "text", "dense": "none", "bcmi": False, "context_tokens": 0, "gmfe": False, "consistency": 0.0}
LORA = {"adapt": "lora", "lora_rank": 2}


def label(value: Any) -> str:
    """A switch as a test's name, without the fields of the backbones."""
    if isinstance(value, dict):
        return ",".join(name if name in ("vision", "text") else f"{name}={value[name]}" for name in value)
    return str(value)


def build(**overrides: Any) -> SGSRF:
    """The tiny model, the same weights every time."""
    torch.manual_seed(0)
    given = {"vision": SAM2, "text": CLIP, "heads": 4, "prompt_width": 32, "hidden": 48}
    return SGSRF(**model_args("sgsrf", **{**given, **overrides}))


def trained(model: SGSRF) -> SGSRF:
    """The model with other weights in the refinement, whose branches start at 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.refinement.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model


def parameters_of(model: torch.nn.Module, *, trainable: bool = False) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad or not trainable)


def decoded(model: SGSRF, words: Tensor | None = None, samples: int = 2, **text: Tensor) -> tuple[Tensor, Any]:
    """Logits and consistency loss of a batch in training mode, with `words` in place of CLIP's text tokens."""
    views, given = make_inputs(samples)
    given |= text
    if words is not None:
        model.clip.encode_text = lambda _: words  # type: ignore[method-assign]
    output = model(views, given)
    return output.logits, output.aux_losses.get("consistency")


def test_views_and_tokens_are_the_encoders_own() -> None:
    model = build(vision={**SAM2, "image": 128})
    assert list(model.views.items()) == [("sam", 128), ("clip", 64)]
    assert (model.max_tokens, model.phrase_masks) == (TOKENS, ("word_mask",))
    text = build(**TEXT)
    assert list(text.views) == ["sam"]
    assert not any(name.startswith("clip.visual.") for name, _ in text.named_parameters())


@pytest.mark.parametrize("dense", ["token", "text_pool"])
def test_pads_and_special_tokens_have_no_influence_given_the_encoders_tokens(dense) -> None:
    """Neither on the mask nor on the loss, and no gradient reaches them."""
    model = trained(build(dense=dense)).double()
    mask = make_inputs(3)[1]["word_mask"].bool()
    words = torch.randn(3, TOKENS, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = words.clone().requires_grad_()
    logits, loss = decoded(model, first, 3)
    for other in (words + 3 * ~mask[..., None], words.where(mask[..., None], words.flip(1) - 1)):
        assert not other.equal(words)
        new_logits, new_loss = decoded(model, other, 3)
        assert torch.allclose(logits, new_logits, rtol=0, atol=1e-12)
        assert torch.allclose(loss, new_loss, rtol=0, atol=1e-12)
    (logits.square().sum() + loss).backward()
    assert first.grad is not None
    assert not first.grad[~mask].any()
    assert first.grad[mask].all()
    changed, _ = decoded(model, words.where(~mask[..., None], words.flip(2)), 3)
    assert (changed - logits).abs().max() > 1e-5


def test_the_loss_is_there_in_training_alone_and_scales_with_lambda() -> None:
    views, text = make_inputs()
    model, strong = build(), build(consistency=0.7)
    weak = model(views, text).aux_losses["consistency"]
    assert weak > 0
    assert torch.allclose(strong(views, text).aux_losses["consistency"], weak * 0.7 / 0.5)
    assert build(consistency=0.0)(views, text).aux_losses == {}
    assert model.eval()(views, text).aux_losses == {}


def test_the_reduction_of_the_loss_is_the_sum_over_a_samples_rows_or_their_mean() -> None:
    views, text = make_inputs()
    losses = {
        name: float(build(consistency_reduction=name)(views, text).aux_losses["consistency"].detach())
        for name in ("sum", "mean")
    }
    assert losses["sum"] > 3 * losses["mean"] > 0


def test_training_and_evaluation_give_the_same_logits() -> None:
    model = trained(build()).double()
    with torch.no_grad():
        training = model(*make_inputs()).logits
        assert torch.allclose(model.eval()(*make_inputs()).logits, training, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("switch", "same_weights"),
    [
        (TEXT, False),
        ({**TEXT, "prompts": "gpg"}, False),
        ({"dense": "none"}, False),
        ({"dense": "text_pool"}, False),
        ({"bcmi": False}, True),
        ({"context_tokens": 0, "gmfe": False}, False),
        ({"gmfe": False}, True),
        ({"context_tokens": 1}, False),
        ({"context_tokens": 3}, False),
        ({"context_tokens": 9}, False),
        ({"context_tokens": 12}, False),
        ({"context_init": "zero"}, False),
        ({"context_init": "random"}, False),
        ({"sparse_tokens": 3}, False),
        ({"sparse_tokens": 6}, False),
        ({"sparse_tokens": 12}, False),
        ({"heads": 1}, True),
        ({"prompt_width": 16}, False),
        ({"hidden": 24}, False),
        ({"text": {**CLIP, **LORA}}, False),
        ({"vision": {**SAM2, **LORA}}, False),
    ],
    ids=label,
)
def test_every_switch_does_something(switch, same_weights) -> None:
    """Another parameter count; or another output from the same weights, as far as the switched model has them."""
    plain, switched = trained(build()).eval(), build(**switch).eval()
    if not same_weights:
        assert parameters_of(switched) != parameters_of(plain)
    else:
        missing, _ = switched.load_state_dict(plain.state_dict(), strict=False)
        assert not missing
    with torch.no_grad():
        before, after = (model(*make_inputs(2)).logits for model in (plain, switched))
    assert torch.isfinite(after).all()
    if same_weights:
        assert (before - after).abs().max() > 1e-6


def test_zero_and_random_context_tokens_differ_at_equal_weights() -> None:
    zero, free = build(context_init="zero").eval(), build(context_init="random").eval()
    assert not zero.refinement.context.tokens_GC.any()
    assert free.refinement.context.tokens_GC.std() > 0.5
    weights = {name: value for name, value in zero.state_dict().items() if not name.endswith("tokens_GC")}
    missing, _ = free.load_state_dict(weights, strict=False)
    assert missing == ["refinement.context.tokens_GC"]
    with torch.no_grad():
        assert (zero(*make_inputs(2)).logits - free(*make_inputs(2)).logits).abs().max() > 1e-6


@pytest.mark.parametrize(
    "switch",
    [
        {},
        TEXT,
        {**TEXT, "prompts": "gpg"},
        {**TEXT, "prompts": "gpg", "dense": "token"},
        {"context_tokens": 0, "gmfe": False},
        {"dense": "text_pool"},
        {"context_init": "zero"},
        {"text": {**CLIP, **LORA}, "vision": {**SAM2, **LORA}},
        {"text": {**CLIP, "text_width": 16}},
    ],
    ids=label,
)
def test_what_takes_gradients_gets_them(switch) -> None:
    """Every parameter that is listed as trainable learns, whatever is switched off; no other one does."""
    model = build(**switch)
    output = model(*make_inputs(3))
    (output.logits.square().mean() + sum(output.aux_losses.values(), torch.zeros(()))).backward()
    silent = {name for name, value in model.named_parameters() if value.requires_grad and value.grad is None}
    assert not silent
    assert not {name for name, value in model.named_parameters() if not value.requires_grad and value.grad is not None}


def test_dense_none_is_sams_own_embedding() -> None:
    model = build(dense="none").eval()
    embed = model.sam2.sam.prompt_encoder.no_mask_embed.weight
    seen = []
    model.sam2.decode = lambda _, sparse, dense: seen.append(dense) or sparse[..., 0]  # type: ignore
    model(*make_inputs(2))
    assert seen[0].shape == (2, 32, 4, 4)
    assert seen[0].equal(embed[0][None, :, None, None].expand(2, -1, 4, 4))


def test_frozen_parts_name_the_backbones_that_are_adapted() -> None:
    assert build().frozen_parts() == {}
    model = build(text={**CLIP, **LORA}, vision={**SAM2, "adapt": "none"})
    assert model.frozen_parts() == {"clip.": "random", "sam2.": "random"}
    for prefix in model.frozen_parts():
        assert any(name.startswith(prefix) and not value.requires_grad for name, value in model.named_parameters())


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"prompts": "gpq"}, "prompts"),
        ({"dense": "map"}, "dense"),
        ({"context_init": "pool"}, "context_init"),
        ({"sparse_tokens": 0}, "sparse_tokens"),
        ({"context_tokens": -1}, "context_tokens"),
        ({"consistency": -0.1}, "consistency"),
        ({"consistency_reduction": "batch"}, "consistency_reduction"),
        ({"heads": 3}, "heads"),
        ({"heads": 32, "prompt_width": 48}, "heads"),
        ({**TEXT, "dense": "token"}, "dense"),
        ({**TEXT, "bcmi": True}, "bcmi"),
        ({**TEXT, "context_tokens": 6}, "context_tokens"),
        ({**TEXT, "gmfe": True}, "gmfe"),
        ({**TEXT, "consistency": 0.5}, "consistency"),
        ({"context_tokens": 0}, "gmfe"),
        ({"context_tokens": 0, "gmfe": False, "context_init": "zero"}, "context_init"),
    ],
    ids=label,
)
def test_wrong_and_contradictory_values_are_refused(wrong, field) -> None:
    with pytest.raises(UserError, match=rf"model\.args\.{field}\b"):
        build(**wrong)


PARTS = {
    "clip": r"clip\.",
    "sam_image": r"sam2\.sam\.(vision_encoder|no_memory|mask_decoder\.conv_s)",
    "sam_prompts": r"sam2\.sam\.(prompt_encoder|mask_decoder|shared)",
    "refinement": r"refinement\.",
    "prompts": r"generator\.|dense_map\.|sparse\.",
    "enhancement": r"enhancement\.",
}


def test_parameters_at_paper_size() -> None:
    """Within 3% and 15% of the printed counts, and what the header's table says to the digit."""
    with torch.device("meta"):
        model = SGSRF(**model_args("sgsrf", *RANDOM_WEIGHTS))
    total, trainable = parameters_of(model) / 1e6, parameters_of(model, trainable=True) / 1e6
    assert abs(total / 1407.38 - 1) < 0.03
    assert abs(trainable / 58.12 - 1) < 0.15
    counts = {part: [0, 0] for part in PARTS}
    for name, value in model.named_parameters():
        part = next(part for part, pattern in PARTS.items() if re.match(pattern, name))
        counts[part][0] += value.numel()
        counts[part][1] += value.numel() * value.requires_grad
    lines = [re.findall(r"\d+\.\d{3}", line) for line in (sgsrf.__doc__ or "").splitlines()]
    table = [tuple(map(float, numbers)) for numbers in lines if len(numbers) == 2]
    wanted = [(round(all_ / 1e6, 3), round(some / 1e6, 3)) for all_, some in counts.values()]
    assert table == [*wanted, (round(total, 3), round(trainable, 3))]


@pytest.mark.slow
def test_one_forward_at_paper_size_and_four_expressions_per_image() -> None:
    """512 and 1024 px with random weights on the CPU, within 24 GiB; encoding once pays."""
    model = SGSRF(**model_args("sgsrf", *RANDOM_WEIGHTS)).eval()
    assert (model.views, model.max_tokens) == ({"sam": 1024, "clip": 512}, 64)
    views = {name: torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8) for name, side in model.views.items()}
    mask = (torch.arange(64) < 12).long()[None]
    texts = [
        {"input_ids": torch.randint(1, 1000, (1, 64)), "attention_mask": mask, "word_mask": mask} for _ in range(4)
    ]
    with torch.no_grad():
        started = time.perf_counter()
        logits = model(views, texts[0]).logits
        whole = time.perf_counter() - started
        assert logits.shape == (1, 256, 256)
        assert torch.isfinite(logits).all()
        started = time.perf_counter()
        encoded = model.encode_image(views)
        decodings = [model.decode(encoded, text).logits for text in texts]
        share = (time.perf_counter() - started) / 4 / whole
    assert torch.allclose(decodings[0], logits, atol=1e-4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"one forward {whole:.1f} s, per expression of 4 {share:.2f} of it, peak {peak:.1f} GiB")
    assert peak < 24
    assert share < 0.4
