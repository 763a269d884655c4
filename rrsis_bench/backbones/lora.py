"""Low-rank adapters (LoRA) on the packed projections of frozen encoders.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685). SGSRF, section 3.2.1,
puts pairs of rank 16 on the query and on the key projection of every attention, and none on the value projection.

Encoders keep the three projections in one matrix, ``qkv.weight`` (timm, SAM 2) or ``in_proj_weight``
(``nn.MultiheadAttention``), so that a pair belongs to a block of its rows. The low-rank product is computed beside
the frozen one: adapting the matrix itself would compute the gradient of the whole matrix in each backward pass. For
evaluation and prediction the pairs are merged into the matrix once. The frozen parameter keeps its name in the state
dict; the pairs are next to it: ``lora_q_down``, ``lora_q_up``, ...
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.errors import UserError

# The row blocks of a packed matrix (query, key, value) that get a pair. RSRefSeg2 adapts all of them, the projection
# after the attention, and the convolutions of SAM 2's neck.
TARGETS: dict[str, tuple[str | None, ...]] = {
    "qk": ("lora_q", "lora_k", None),
    "all": ("lora_q", "lora_k", "lora_v"),
}
NECK = ".neck.convs."


@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters of one module, stored by `add_lora` as its attribute ``adapters``.

    Attributes:
        weight: name of the adapted parameter.
        pairs: for each block of rows (all of equal size), the name of its pair; None: not adapted.
        scale: alpha / rank.
        original: the module's class before.
    """

    weight: str
    pairs: tuple[str | None, ...]
    scale: float
    original: type[nn.Module]


class LoraLinear(nn.Linear):
    """A linear layer with adapters."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name
        """Apply the layer as `nn.Linear` does."""
        return _adapted_linear(self, input, self.weight, self.bias)


class LoraConv2d(nn.Conv2d):
    """A convolution with adapters."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's name
        """Apply the layer as `nn.Conv2d` does."""
        output: Tensor = self._conv_forward(input, self.weight, self.bias)
        ((down, up),) = _pairs(self)
        low: Tensor = self._conv_forward(input, down.view(len(down), *self.weight.shape[1:]), None)
        return output + _scale(self) * F.conv2d(low, up[..., None, None])


class LoraMultiheadAttention(nn.MultiheadAttention):
    """Self-attention with adapters on its packed input projection, and optionally on its output projection."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Apply self-attention to (B, N, C) as `nn.MultiheadAttention` does without weights.

        `nn.MultiheadAttention` itself multiplies by one matrix, so that a low-rank path beside it would not be used.

        Raises:
            ValueError: cross-attention, weights, or a sequence before the batch, which no encoder here asks for.
        """
        if key is not query or value is not query or need_weights or not self.batch_first:
            raise ValueError("Attention with LoRA adapters is self-attention, batch first, and returns no weights.")
        packed = _adapted_linear(self, query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in packed.chunk(3, dim=-1))
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout)
        return self.out_proj(found.transpose(1, 2).flatten(2)), None


def add_lora(module: nn.Module, rank: int, alpha: float, targets: str = "qk") -> list[str]:
    """Freeze the attention projections inside `module` and add trainable low-rank pairs to them.

    A pair adds ``alpha / rank * up @ down`` to its rows. down (rank, in) is drawn as peft draws it and up (rows, rank)
    is zero, so that the adapted weights are equal to the frozen ones at first. Other parameters keep their
    ``requires_grad``.

    Args:
        module: an encoder of timm, open_clip or transformers' SAM 2.
        rank: r.
        alpha: the scale's numerator.
        targets: ``"qk"``: the query rows and the key rows (SGSRF); ``"all"``: also the value rows, the projection after
            the attention, and the convolutions of SAM 2's neck (RSRefSeg2).

    Returns:
        The names of the adapted weights, as in ``module.state_dict()``.

    Raises:
        UserError: a wrong rank, alpha or target, projections that are not packed, a module that has adapters already,
            or no projection to adapt.
    """
    if targets not in TARGETS:
        raise UserError(f"lora_targets must be one of {', '.join(TARGETS)}, not '{targets}'.")
    if rank < 1 or not 0 < alpha < math.inf:
        raise UserError(f"LoRA needs a rank of at least 1 and an alpha above 0, not {rank} and {alpha}.")
    found = _projections(module, targets)
    if not found:
        raise UserError(f"{type(module).__name__} has no packed query, key and value projection that LoRA can adapt.")
    for _, child, weight, pairs in found:
        _adapt(child, weight, pairs, rank, alpha)
    return [f"{name}.{weight}" if name else weight for name, _, weight, _ in found]


def merge_lora(module: nn.Module, *, keep_pairs: bool = False) -> None:
    """Write the adapted matrices into the weights, and apply these alone; outputs do not change but for rounding.

    The merged weights stay frozen. Modules without adapters are not changed.

    Args:
        module: an encoder, or a model.
        keep_pairs: leave the pairs in place as parameters without effect, so that the parameters of a trained model
            are still counted as such. Such a module's state dict must not be saved.
    """
    for child in list(module.modules()):
        adapters = getattr(child, "adapters", None)
        if not isinstance(adapters, Adapters):
            continue
        with torch.no_grad():
            getattr(child, adapters.weight).copy_(adapted_weight(child))
        for pair in () if keep_pairs else filter(None, adapters.pairs):
            delattr(child, f"{pair}_down")
            delattr(child, f"{pair}_up")
        del child.adapters
        child.__class__ = adapters.original


def adapted_weight(module: nn.Module) -> Tensor:
    """Return the merged matrix of an adapted module, in the shape and dtype of its weight.

    It is computed in the weight's own precision, also under autocast.
    """
    adapters = cast(Adapters, module.adapters)
    weight = cast(Tensor, getattr(module, adapters.weight))
    blocks = list(weight.flatten(1).chunk(len(adapters.pairs)))
    with torch.autocast(weight.device.type, enabled=False):
        for index, pair in enumerate(adapters.pairs):
            if pair is not None:
                down, up = getattr(module, f"{pair}_down"), getattr(module, f"{pair}_up")
                blocks[index] = torch.addmm(blocks[index], up, down, alpha=adapters.scale)
        return torch.cat(blocks).view_as(weight)


def trainable_parts(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Count parameters by part: name of a direct child -> (all, trainable); ``lora``: adapters of all children.

    Direct parameters of `module` are listed under their own names. A shared parameter is counted once, at its first
    place.
    """
    parts: dict[str, tuple[int, int]] = {}
    for name, parameter in module.named_parameters():
        part = "lora" if name.rpartition(".")[2].startswith("lora_") else name.partition(".")[0]
        total, trainable = parts.get(part, (0, 0))
        size = parameter.numel()
        parts[part] = (total + size, trainable + size * parameter.requires_grad)
    return parts


Projection = tuple[str, nn.Module, str, tuple[str | None, ...]]


def _projections(module: nn.Module, targets: str) -> list[Projection]:
    """Return (name, module, name of its weight, pairs) for every projection of `targets`, in module order."""
    packed, single, found = TARGETS[targets], ("lora",), []

    def add(name: str, child: nn.Module, weight: str, pairs: tuple[str | None, ...]) -> None:
        if isinstance(getattr(child, "adapters", None), Adapters):
            raise UserError(f"'{name}' has LoRA adapters already.")
        found.append((name, child, weight, pairs))

    for name, child in module.named_modules():
        dot = f"{name}." if name else ""
        if isinstance(getattr(child, "qkv", None), nn.Linear):
            add(f"{dot}qkv", child.qkv, "weight", packed)
            if targets == "all":
                add(f"{dot}proj", child.proj, "weight", single)
        elif isinstance(child, nn.MultiheadAttention) and child.in_proj_weight is not None:
            add(name, child, "in_proj_weight", packed)
            if targets == "all":
                add(f"{dot}out_proj", child.out_proj, "weight", single)
        elif hasattr(child, "in_proj_weight"):
            raise UserError(f"LoRA cannot adapt '{name}', a {type(child).__name__}: its projections are not packed.")
        elif targets == "all" and isinstance(child, nn.Conv2d) and NECK in f".{name}.":
            add(name, child, "weight", single)
    return found


def _adapt(module: nn.Module, weight: str, pairs: tuple[str | None, ...], rank: int, alpha: float) -> None:
    """Change the class of `module` to its adapted class and add new pairs for its frozen `weight`."""
    base = cast(nn.Parameter, getattr(module, weight)).requires_grad_(False)
    rows, columns = base.shape[0] // len(pairs), base[0].numel()
    for pair in filter(None, pairs):
        down = nn.Parameter(base.new_empty(rank, columns))
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        module.register_parameter(f"{pair}_down", down)
        module.register_parameter(f"{pair}_up", nn.Parameter(base.new_zeros(rows, rank)))
    module.adapters = Adapters(weight, pairs, alpha / rank, type(module))  # type: ignore[assignment]
    kinds = ((nn.MultiheadAttention, LoraMultiheadAttention), (nn.Conv2d, LoraConv2d), (nn.Linear, LoraLinear))
    module.__class__ = next(adapted for plain, adapted in kinds if isinstance(module, plain))


def _adapted_linear(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the frozen product plus the low-rank products on their blocks of channels."""
    blocks = list(F.linear(x, weight, bias).chunk(len(cast(Adapters, module.adapters).pairs), dim=-1))
    pairs = iter(_pairs(module))
    for index, pair in enumerate(cast(Adapters, module.adapters).pairs):
        if pair is not None:
            down, up = next(pairs)
            blocks[index] = blocks[index] + _scale(module) * F.linear(F.linear(x, down), up)
    return torch.cat(blocks, dim=-1) if len(blocks) > 1 else blocks[0]


def _pairs(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return down and up of every pair."""
    names = filter(None, cast(Adapters, module.adapters).pairs)
    return [(getattr(module, f"{name}_down"), getattr(module, f"{name}_up")) for name in names]


def _scale(module: nn.Module) -> float:
    return cast(Adapters, module.adapters).scale
