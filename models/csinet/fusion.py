"""Language fusion of the views: words attended by every position, mixed in through a gate (Equations 1 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .views import Views

SHARES = ("words", "all", "none")


class ProjectedWords(NamedTuple):
    """Keys and values of the words at one stage.

    Attributes:
        key_BLC: K, not scaled.
        value_BLC: V; 0 for words that may not be attended to.
        mask_BL: 1 for words that may be attended to.
    """

    key_BLC: Tensor
    value_BLC: Tensor
    mask_BL: Tensor


class WordProjection(nn.Module):
    """Keys and values of Equation 1.

    The keys' projection has no bias: it would add the same number to a position's scores of all words, and the softmax
    cancels that.
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.key = nn.Linear(text_dim, dim, bias=False)
        self.value = nn.Linear(text_dim, dim)

    def forward(self, words_BLD: Tensor, mask_BL: Tensor) -> ProjectedWords:
        """Project the words."""
        key_BLC, value_BLC = self.key(words_BLD), self.value(words_BLD)
        mask_BL = mask_BL.to(value_BLC.dtype)
        return ProjectedWords(key_BLC, value_BLC * mask_BL[..., None], mask_BL)


class LanguageFusion(nn.Module):
    """Cross-modality features of one view at one stage (Section III-B.1), given the projected words."""

    def __init__(self, dim: int, *, gate: bool = True) -> None:
        """Build for maps of `dim` channels; without `gate`, F + V replaces Equation 3."""
        super().__init__()
        self.query = nn.Linear(dim, dim)
        # Both projections of Cat([F, V]) in Equation 3: first the rows of the gate, then those of the gated content.
        self.mix = nn.Linear(2 * dim, 2 * dim) if gate else None
        self.out = nn.Linear(dim, dim) if gate else None

    def forward(self, x_BHWC: Tensor, words: ProjectedWords) -> Tensor:
        """Return (B, H, W, C).

        Args:
            x_BHWC: the view's map, V in the paper.
            words: keys and values. F is 0 if no word may be attended to.
        """
        dim = x_BHWC.shape[-1]
        x_BNC, mask_BL = x_BHWC.flatten(1, 2), words.mask_BL.to(x_BHWC.dtype)
        # All steps except the softmax are linear, so the projections are applied to the L words, which are far fewer
        # than the N positions: (W x + b) k = x (W k) + b k. The same holds for the values.
        key_BLC = words.key_BLC * dim**-0.5
        offset_BL = key_BLC @ self.query.bias + 1e4 * (mask_BL - 1)
        scores_BNL = torch.baddbmm(offset_BL[:, None], x_BNC, (key_BLC @ self.query.weight).transpose(1, 2))
        weights_BNL = scores_BNL.softmax(-1)
        if self.mix is None or self.out is None:
            return torch.baddbmm(x_BNC, weights_BNL, words.value_BLC).view_as(x_BHWC)
        of_words, of_map = self.mix.weight.split(dim, dim=1)
        mixed_BNC = F.linear(x_BNC, of_map, self.mix.bias) + weights_BNL @ F.linear(words.value_BLC, of_words)
        gate_BNC, content_BNC = mixed_BNC.chunk(2, dim=-1)
        return x_BHWC + self.out(torch.tanh(gate_BNC) * content_BNC).view_as(x_BHWC)


class LanguageFusions(nn.Module):
    """Language fusion of all views at one stage. Shared weights are stored under the name ``both``."""

    def __init__(self, names: Sequence[str], dim: int, text_dim: int, *, gate: bool, share: str) -> None:
        """Build for the views `names`.

        Args:
            names: views of the model.
            dim: channels of the maps.
            text_dim: features of a word.
            gate: see `LanguageFusion`.
            share: ``"words"``: the views share the projections of the words; ``"all"``: the whole fusion;
                ``"none"``: nothing.
        """
        super().__init__()
        self.names = tuple(names)
        both = ("both",) if len(self.names) > 1 else self.names
        self.words = nn.ModuleDict({name: WordProjection(dim, text_dim) for name in self._keys(both, share != "none")})
        self.maps = nn.ModuleDict({name: LanguageFusion(dim, gate=gate) for name in self._keys(both, share == "all")})

    def forward(self, views: Views, words_BLD: Tensor, mask_BL: Tensor) -> dict[str, Tensor]:
        """Return the fused maps (B, H, W, C) by view.

        Args:
            views: the maps.
            words_BLD: word features.
            mask_BL: 1 for words that may be attended to.
        """
        projected = {name: projection(words_BLD, mask_BL) for name, projection in self.words.items()}
        fused = {}
        for name in self.names:
            fusion = self.maps[name if name in self.maps else "both"]
            fused[name] = fusion(getattr(views, name), projected[name if name in projected else "both"])
        return fused

    def _keys(self, both: Sequence[str], shared: bool) -> Sequence[str]:
        return both if shared else self.names


class SeparateFusions(nn.Module):
    """Another fusion on each view (Table V): modules that take map, words and mask and return the fused map first."""

    def __init__(self, fusions: dict[str, nn.Module]) -> None:
        """Build from one fusion per view."""
        super().__init__()
        self.maps = nn.ModuleDict(fusions)

    def forward(self, views: Views, words_BLD: Tensor, mask_BL: Tensor) -> dict[str, Tensor]:
        """Return the fused maps by view. PWAM and IIM also return the features that they added, which are not used."""
        return {name: fusion(getattr(views, name), words_BLD, mask_BL)[0] for name, fusion in self.maps.items()}
