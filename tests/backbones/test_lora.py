"""LoRA on packed projections: the plain formula, unchanged outputs at the start, exact merges, and what never moves."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention, Sam2VisionNeck

from rrsis_bench.backbones import lora
from rrsis_bench.backbones.lora import LoraLinear, LoraMultiheadAttention, add_lora, merge_lora, trainable_parts
from rrsis_bench.errors import UserError

DIM = 16


class Timm(nn.Module):
    """timm's attention, as in SigLIP's image tower."""

    weight = "attn.qkv.weight"

    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention(DIM, num_heads=2, qkv_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(x)


class Torch(nn.Module):
    """`nn.MultiheadAttention`, as in open_clip's towers."""

    weight = "attn.in_proj_weight"

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(DIM, 2, batch_first=True)
        nn.init.normal_(self.attn.in_proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(x, x, x, need_weights=False)[0]


class Sam(nn.Module):
    """SAM 2's attention, which changes the width, and its neck."""

    weight = "attn.qkv.weight"

    def __init__(self) -> None:
        super().__init__()
        hiera = Sam2HieraDetConfig(attn_implementation="sdpa")
        self.attn = Sam2MultiScaleAttention(hiera, dim=DIM, dim_out=2 * DIM, num_attention_heads=2)
        self.neck = Sam2VisionNeck(
            Sam2VisionConfig(backbone_channel_list=[2 * DIM], fpn_hidden_size=8, fpn_top_down_levels=[0])
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(x.reshape(2, 3, 3, DIM))
        return self.neck((x,))[0][0]


KINDS = (Timm, Torch, Sam)
Kind = type[Timm] | type[Torch] | type[Sam]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def build(kind: Kind) -> nn.Module:
    torch.manual_seed(0)
    return kind().requires_grad_(False).eval()


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(2, 9, DIM, generator=torch.Generator().manual_seed(seed))


def fill_up(module: nn.Module) -> None:
    """Adapters as after training: no pair is zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("_up"):
                parameter.normal_(std=0.5)


def train(module: nn.Module, steps: int = 3) -> None:
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    module.train()
    for step in range(steps):
        optimiser.zero_grad()
        module(tokens(step)).pow(2).mean().backward()
        optimiser.step()
    module.eval()


def rows(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value rows of a packed matrix."""
    third = len(weight) // 3
    return weight[:third], weight[third : 2 * third], weight[2 * third :]


@pytest.mark.parametrize("targets", ["qk", "all"])
def test_adapters_change_nothing_at_initialisation(kind: Kind, targets: str) -> None:
    """The weights are equal. Kernels may sum in another order, so the outputs are compared with a tolerance."""
    plain, adapted = build(kind), build(kind)
    names = add_lora(adapted, rank=4, alpha=8.0, targets=targets)
    for module, weight in (name.rpartition(".")[::2] for name in names):
        assert torch.equal(lora.adapted_weight(adapted.get_submodule(module)), plain.state_dict()[f"{module}.{weight}"])
    with torch.no_grad():  # nn.MultiheadAttention: the fast path
        torch.testing.assert_close(adapted(tokens()), plain(tokens()), rtol=0, atol=1e-6)
    torch.testing.assert_close(adapted.train()(tokens()), plain.train()(tokens()), rtol=0, atol=1e-6)


def test_adapted_rows_are_the_papers_formula(kind: Kind) -> None:
    """Section 3.2.1, row by row: W + alpha / r * up @ down on the query and key rows; the value rows as they are."""
    plain, adapted = build(kind), build(kind)
    assert add_lora(adapted, rank=4, alpha=8.0) == [kind.weight]
    fill_up(adapted)
    state, packed = adapted.state_dict(), plain.state_dict()[kind.weight]
    prefix = kind.weight.removesuffix("weight") if kind.weight.endswith(".weight") else "attn."
    for block, pair in zip(rows(packed)[:2], ("lora_q", "lora_k"), strict=True):
        down, up = state[f"{prefix}{pair}_down"], state[f"{prefix}{pair}_up"]
        for row in range(len(block)):
            for rank in range(4):
                block[row] += 2.0 * up[row, rank] * down[rank]  # a view: the plain module's own weight
    with torch.no_grad():
        torch.testing.assert_close(adapted(tokens()), plain(tokens()), rtol=0, atol=1e-5)
    torch.testing.assert_close(adapted.train()(tokens()), plain.train()(tokens()), rtol=0, atol=1e-5)


def test_all_adapts_what_rsrefseg2_adapts() -> None:
    assert add_lora(build(Timm), 2, 2.0, "all") == ["attn.qkv.weight", "attn.proj.weight"]
    assert add_lora(build(Torch), 2, 2.0, "all") == ["attn.in_proj_weight", "attn.out_proj.weight"]
    sam = build(Sam)
    assert add_lora(sam, 2, 2.0, "all") == ["attn.qkv.weight", "attn.proj.weight", "neck.convs.0.weight"]
    assert {name.rpartition(".")[2] for name, p in sam.named_parameters() if p.requires_grad} == {
        f"lora{pair}_{half}" for pair in ("_q", "_k", "_v", "") for half in ("down", "up")
    }


@pytest.mark.parametrize("targets", ["qk", "all"])
def test_every_adapter_changes_the_output_on_every_path(kind: Kind, targets: str) -> None:
    """In training, and without gradients, where nn.MultiheadAttention reads its matrices in a fused kernel."""
    module = build(kind)
    names = add_lora(module, 2, 2.0, targets)
    with torch.no_grad():
        before = module(tokens())
    for name, parameter in module.named_parameters():
        if not name.endswith("_up"):
            continue
        with torch.no_grad():
            parameter.normal_()
            evaluated = module(tokens())
        trained = module.train()(tokens()).detach()
        module.eval()
        assert not torch.allclose(evaluated, before, atol=1e-4), name
        torch.testing.assert_close(evaluated, trained, rtol=0, atol=1e-5)
        before = evaluated
    assert names


@pytest.mark.parametrize("targets", ["qk", "all"])
def test_merging_changes_no_output_and_leaves_the_original_module(kind: Kind, targets: str) -> None:
    plain, module = build(kind), build(kind)
    add_lora(module, 4, 4.0, targets)
    train(module)
    with torch.no_grad():
        before = module(tokens())
        merge_lora(module)
        assert (module(tokens()) - before).abs().max() <= 1e-5
        assert not torch.allclose(before, plain(tokens()), atol=1e-4)
    assert [(name, type(child)) for name, child in module.named_modules()] == [
        (name, type(child)) for name, child in plain.named_modules()
    ]
    assert list(module.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(module.state_dict())
    # One side asks for gradients, and nn.MultiheadAttention then runs other kernels.
    torch.testing.assert_close(plain(tokens()), module(tokens()), rtol=0, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_training_moves_the_pairs_and_nothing_else(kind: Kind) -> None:
    module = build(kind)
    weight = module.state_dict()[kind.weight].clone()
    others = {name: value.clone() for name, value in module.state_dict().items()}
    add_lora(module, 4, 4.0)
    pairs = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    train(module)
    state = module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in others.items())
    assert len(pairs) == 4
    assert not any(torch.equal(state[name], value) for name, value in pairs.items())
    merge_lora(module)
    merged = module.state_dict()[kind.weight]
    assert torch.equal(rows(merged)[2], rows(weight)[2])
    assert all(not torch.equal(rows(merged)[i], rows(weight)[i]) for i in (0, 1))


def test_the_state_dict_keeps_the_original_names(kind: Kind) -> None:
    plain, module, other = build(kind), build(kind), build(kind)
    add_lora(module, 4, 4.0)
    fill_up(module)
    added = set(module.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) <= set(module.state_dict())
    prefix = kind.weight.rpartition(".")[0]
    assert added == {f"{prefix}.lora_{part}_{half}" for part in "qk" for half in ("down", "up")}
    add_lora(other, 4, 4.0)
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(tokens()), module(tokens()), rtol=0, atol=1e-6)


def operations(module: nn.Module, x: Tensor) -> int:
    """Forward and backward, with a gradient of the input, as inside an encoder."""
    with FlopCounterMode(display=False) as counter:
        module.train()(x.detach().requires_grad_()).pow(2).mean().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("targets", ["qk", "all"])
def test_adapters_cost_their_low_rank_products_alone(kind: Kind, targets: str) -> None:
    """Forward, and gradients of input and pair: 3 products of each half. The whole matrix gets no gradient."""
    plain, adapted = build(kind), build(kind)
    names = add_lora(adapted, 2, 2.0, targets)
    extra = operations(adapted, tokens()) - operations(plain, tokens())
    halves = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert extra == 3 * 2 * halves * 18  # 2 x 9 tokens
    assert names
    merge_lora(adapted, keep_pairs=True)
    assert operations(adapted, tokens()) == operations(plain, tokens())


def test_merging_for_inference_keeps_the_count_of_parameters(kind: Kind) -> None:
    module = build(kind)
    add_lora(module, 2, 2.0)
    fill_up(module)
    counts, state = trainable_parts(module), set(module.state_dict())
    with torch.no_grad():
        before = module(tokens())
        merge_lora(module, keep_pairs=True)
        torch.testing.assert_close(module(tokens()), before, rtol=0, atol=1e-5)
        merge_lora(module, keep_pairs=True)  # a second call changes nothing
        torch.testing.assert_close(module(tokens()), before, rtol=0, atol=1e-5)
    assert (trainable_parts(module), set(module.state_dict())) == (counts, state)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301
@pytest.mark.parametrize("targets", ["qk", "all"])
def test_adapted_modules_are_copied_and_pickled(kind: Kind, targets: str, clone: Callable) -> None:
    module = build(kind)
    add_lora(module, 2, 2.0, targets)
    fill_up(module)
    twin = clone(module)
    with torch.no_grad():
        torch.testing.assert_close(twin(tokens()), module(tokens()), rtol=0, atol=1e-6)
        fill_up(twin)
        assert not torch.allclose(twin(tokens()), module(tokens()), rtol=0, atol=1e-4)
    merge_lora(twin)


def test_bfloat16_autocast_keeps_the_adapted_weights_precise(kind: Kind) -> None:
    module = build(kind)
    add_lora(module, 2, 2.0)
    fill_up(module)
    child = module.get_submodule(kind.weight.rpartition(".")[0])
    wanted = lora.adapted_weight(child)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lora.adapted_weight(child), wanted)
        out = module.train()(tokens())
    out.float().pow(2).mean().backward()
    grads = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(grad is not None and grad.dtype == torch.float32 and grad.abs().sum() > 0 for grad in grads)
    with torch.autocast("cpu", torch.bfloat16):
        merge_lora(module)
        torch.testing.assert_close(module(tokens()).float(), out.float(), rtol=0.05, atol=0.1)


def test_float64_follows_the_module(kind: Kind) -> None:
    module = build(kind)
    add_lora(module, 2, 2.0)
    assert module.double()(tokens().double()).dtype == torch.float64


class Operators(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002 - torch's signature
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_attention_stays_fused(kind: Kind) -> None:
    module = build(kind)
    add_lora(module, 2, 2.0)
    with Operators() as operators:
        module.train()(tokens())
    assert any("scaled_dot_product" in name for name in operators.names)


def test_an_error_inside_leaves_the_weight_in_place() -> None:
    module = build(Torch)
    add_lora(module, 2, 2.0, "all")
    with pytest.raises((RuntimeError, AssertionError)):
        module(torch.zeros(2, 9, DIM + 1))
    assert isinstance(module.attn.in_proj_weight, nn.Parameter)
    assert isinstance(module.attn.out_proj.weight, nn.Parameter)
    module(tokens())


def test_trainable_parameters_by_part() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = build(Timm), build(Torch)
            self.head = nn.Linear(DIM, 1)
            self.scale = nn.Parameter(torch.zeros(3), requires_grad=False)

    module = Both()
    add_lora(module, 2, 2.0)
    packed = 4 * DIM * DIM + 4 * DIM  # three projections and the output's, with their biases
    assert trainable_parts(module) == {
        "scale": (3, 0),
        "image": (packed, 0),
        "lora": (8 * 2 * DIM, 8 * 2 * DIM),
        "text": (packed, 0),
        "head": (DIM + 1, DIM + 1),
    }


def test_adapted_weights_freeze_and_the_rest_stays_as_it_was(kind: Kind) -> None:
    module = kind()
    add_lora(module, 2, 2.0)
    assert {name for name, p in module.named_parameters() if not p.requires_grad} == {kind.weight}


def test_classes_are_those_of_the_kind() -> None:
    timm, torchs = build(Timm), build(Torch)
    add_lora(timm, 2, 2.0)
    add_lora(torchs, 2, 2.0, "all")
    assert type(timm.attn.qkv) is LoraLinear
    assert type(timm.attn.proj) is nn.Linear
    assert type(torchs.attn) is LoraMultiheadAttention
    assert type(torchs.attn.out_proj) is LoraLinear


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (lambda: build(Timm), (0, 1.0), "rank of at least 1"),
        (lambda: build(Timm), (4, 0.0), "alpha above 0"),
        (lambda: build(Timm), (4, float("nan")), "alpha above 0"),
        (lambda: build(Timm), (4, 4.0, "qkv"), "lora_targets must be one of qk, all"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), (4, 4.0), "Sequential has no packed query"),
        (lambda: nn.Sequential(nn.MultiheadAttention(8, 2, kdim=4)), (4, 4.0), "cannot adapt '0'"),
    ],
)
def test_errors_for_a_person(module: Callable[[], nn.Module], arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_lora(module(), *arguments)


def test_adapters_are_put_on_once() -> None:
    module = build(Timm)
    add_lora(module, 2, 2.0)
    with pytest.raises(UserError, match="'attn.qkv' has LoRA adapters already"):
        add_lora(module, 2, 2.0)
