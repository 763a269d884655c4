"""Intra-scale feature interaction (Section III-B, Figure 4): refinement, relations and words of one stage, gated."""

# E = channels of all concatenated maps

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cma import CMA
from .csr import CSR
from .psr import PSR


class AdaptiveFusion(nn.Module):
    """Linear(sum of sigmoid(g_i) * F_i), [g_1, g_2, ...] = Linear([F_1, F_2, ...]) (Section III-B.d)."""

    def __init__(self, dim: int, maps: int) -> None:
        """Build for `maps` maps of `dim` channels."""
        super().__init__()
        self.gate = nn.Linear(maps * dim, maps * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, *maps_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        joint_BHWE = torch.cat(maps_BHWC, dim=-1)
        gated_BHWE = torch.sigmoid(self.gate(joint_BHWE)) * joint_BHWE
        return self.out(gated_BHWE.unflatten(-1, (len(maps_BHWC), -1)).sum(-2))


class IFIM(nn.Module):
    """Refine a stage's map: a gated sum of PSR, CSR and CMA of the same input."""

    def __init__(
        self, dim: int, text_dim: int, *, psr: bool = True, csr: bool = True, softmax: str = "channels"
    ) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features.

        Args:
            dim: channels of the stage.
            text_dim: width of the word features.
            psr: use the pyramidal spatial-spectral refinement.
            csr: use the context-aware spatial relation modelling.
            softmax: axis of the spectral weights, see `models.mrsnet.psr`.
        """
        super().__init__()
        self.psr = PSR(dim, softmax) if psr else None
        self.csr = CSR(dim) if csr else None
        self.cma = CMA(dim, text_dim)
        self.fusion = AdaptiveFusion(dim, 1 + psr + csr)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the refined map (B, H, W, C)."""
        maps = [part(x_BHWC) for part in (self.psr, self.csr) if part is not None]
        aligned_BNC = self.cma(x_BHWC.flatten(1, 2), words_BLD, mask_BL)
        return self.fusion(*maps, aligned_BNC.view_as(x_BHWC))
