"""Multi-head attention with projections of its own, whose queries, keys and values may come from three sources."""

# M = tokens that are attended to

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Scaled dot-product attention with projections on both sides.

    The keys' projection has no bias, because the softmax cancels it.
    """

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        """Build for tokens of `dim` features; queries, keys and values have `inner` features, split over the heads."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner, bias=False)
        self.value = nn.Linear(dim, inner)
        self.out = nn.Linear(inner, dim)

    def forward(
        self, queries_BNC: Tensor, keys_BMC: Tensor, values_BMC: Tensor, mask_BM: Tensor | None = None
    ) -> Tensor:
        """Return the attended values for the N queries, (B, N, C).

        Args:
            queries_BNC: tokens that the queries are made of.
            keys_BMC: tokens that the keys are made of.
            values_BMC: tokens that the values are made of.
            mask_BM: True where a token may be attended to, None for all. Without any such token, the
                input of the output projection is 0.
        """
        query, key, value = self._project(queries_BNC, keys_BMC, values_BMC)
        allowed_BM, any_B = _at_least_one(mask_BM)
        mask = None if allowed_BM is None else allowed_BM[:, None, None]
        return self._merge(F.scaled_dot_product_attention(query, key, value, attn_mask=mask), any_B)

    def with_weights(
        self, queries_BNC: Tensor, keys_BMC: Tensor, values_BMC: Tensor, mask_BM: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the output of `forward`, and the weights (B, N, M) in float32, averaged over the heads."""
        query, key, value = self._project(queries_BNC, keys_BMC, values_BMC)
        allowed_BM, any_B = _at_least_one(mask_BM)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        if allowed_BM is not None:
            scores = scores.masked_fill(~allowed_BM[:, None, None], float("-inf"))
        weights = scores.softmax(-1)
        return self._merge(weights.to(value.dtype) @ value, any_B), weights.mean(1)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Start with an output of 0; call it after `initialise`, which sets the bias to 0."""
        self.out.weight.zero_()

    def _project(self, *tokens: Tensor) -> list[Tensor]:
        layers = (self.query, self.key, self.value)
        return [
            layer(x_BNC).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x_BNC in zip(layers, tokens, strict=True)
        ]

    def _merge(self, found: Tensor, any_B: Tensor | None) -> Tensor:
        found_BNC = found.transpose(1, 2).flatten(2)
        if any_B is not None:
            found_BNC = found_BNC * any_B[:, None, None]
        return self.out(found_BNC)


def _at_least_one(mask_BM: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the mask with empty rows set to True, for a finite softmax, and which rows were not empty."""
    if mask_BM is None:
        return None, None
    any_B = mask_BM.any(1)
    return mask_BM | ~any_B[:, None], any_B


def initialise(module: nn.Module) -> None:
    """Draw the weights of the linear layers by Xavier's rule and set biases to 0; this keeps the input's scale."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
