"""LSCF's fusion of one stage: convolutions at three scales, pixel-word attention, then attention to 49 agents."""

# K = agents, c = channels of one head

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ..blocks.attention import LanguageGate, PixelWordAttention

HEADS = 8
AGENTS = 7
"""Side of the grid that keys and values are pooled to."""


class CoordLinear(nn.Linear):
    """A linear layer on the features of every position and its coordinates: x, then y, each from -1 to 1."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels in and out."""
        super().__init__(dim + 2, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        batch, height, width, _ = x_BHWC.shape
        across_W, down_H = (
            torch.linspace(-1, 1, size, dtype=x_BHWC.dtype, device=x_BHWC.device) for size in (width, height)
        )
        coords_BHW2 = torch.stack(torch.meshgrid(across_W, down_H, indexing="xy"), dim=-1).expand(batch, -1, -1, -1)
        return super().forward(torch.cat([x_BHWC, coords_BHW2], dim=-1))


class ScaleBranch(nn.Module):
    """Features with coordinates, a depthwise convolution, BatchNorm and ReLU6."""

    def __init__(self, dim: int, kernel: int) -> None:
        """Build for `dim` channels and a kernel of `kernel` x `kernel`."""
        super().__init__()
        self.point = CoordLinear(dim)
        self.depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        x_BCHW = self.depthwise(self.point(x_BHWC).permute(0, 3, 1, 2))
        return F.relu6(self.bn(x_BCHW)).permute(0, 2, 3, 1)


class AgentAttention(nn.Module):
    """Every position attends to 7 x 7 agents: keys pooled to their maximum, values to their mean.

    The bias tables of rows and columns tie the block to one side of the map.
    """

    def __init__(self, dim: int, side: int) -> None:
        """Build for square maps of `side` positions and `dim` channels."""
        super().__init__()
        self.side = side
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.agent_bias = nn.Parameter(torch.empty(HEADS, AGENTS**2, AGENTS, AGENTS))
        self.row_bias = nn.Parameter(torch.empty(1, HEADS, side, 1, AGENTS**2))
        self.col_bias = nn.Parameter(torch.empty(1, HEADS, 1, side, AGENTS**2))
        for bias in (self.agent_bias, self.row_bias, self.col_bias):
            nn.init.trunc_normal_(bias, std=0.02)

    def forward(self, query_BHWC: Tensor, source_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C): attention of the first map to the agents of the second."""
        query = self.query(query_BHWC)
        key_BCHW, value_BCHW = (layer(source_BHWC).permute(0, 3, 1, 2) for layer in (self.key, self.value))
        key = F.adaptive_max_pool2d(key_BCHW, AGENTS).flatten(2).transpose(1, 2)
        value = F.adaptive_avg_pool2d(value_BCHW, AGENTS).flatten(2).transpose(1, 2)
        q, k, v = (tokens.unflatten(2, (HEADS, -1)).transpose(1, 2) for tokens in (query.flatten(1, 2), key, value))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias())  # (B, heads, N, c)
        attended_BHWC = attended.transpose(1, 2).reshape(query.shape)
        local_BHWC = self.local(query.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out_BHWC: Tensor = self.out(attended_BHWC + local_BHWC)
        return out_BHWC

    def _bias(self) -> Tensor:
        """Return the bias (1, heads, N, K)."""
        size = (self.side, self.side)
        pooled = F.interpolate(self.agent_bias, size=size, mode="bilinear", align_corners=False)  # (heads, K, s, s)
        return (pooled.permute(0, 2, 3, 1)[None] + self.row_bias + self.col_bias).flatten(2, 3)


class StageFusion(nn.Module):
    """Fuse the words into one stage: the map that goes on, and the map for the decoder."""

    def __init__(self, dim: int, text_dim: int, side: int, *, gated: bool) -> None:
        """Build for square maps of `side` positions and `dim` channels, and words of `text_dim` features.

        `gated` is False for the last stage, whose tokens go nowhere after the fusion.
        """
        super().__init__()
        self.branches = nn.ModuleList(ScaleBranch(dim, kernel) for kernel in (1, 3, 5))
        self.visual = nn.Linear(dim, dim)
        self.norm_visual = nn.LayerNorm(dim)
        self.words = nn.Linear(text_dim, text_dim)
        self.norm_words = nn.LayerNorm(text_dim)
        self.coords = CoordLinear(dim)
        self.attention = PixelWordAttention(dim, text_dim, heads=HEADS)
        self.mix = nn.Linear(4 * dim, dim)
        self.mix_bn = nn.BatchNorm2d(dim)
        self.norm_query = nn.LayerNorm(dim)
        self.norm_source = nn.LayerNorm(dim)
        self.agents = AgentAttention(dim, side)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = Mlp(dim, 4 * dim)
        self.gate = LanguageGate(dim) if gated else None
        self.apply(_initialise)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of the next stage and the features for the decoder, both (B, H, W, C)."""
        visual_BHWC = self.norm_visual(F.relu(self.visual(x_BHWC)))
        words_BLD = self.norm_words(F.gelu(self.words(words_BLD)))
        attended_BNC = self.attention(self.coords(visual_BHWC).flatten(1, 2), words_BLD, mask_BL)
        language_BHWC = x_BHWC + attended_BNC.view_as(x_BHWC)
        mixed = self.mix(torch.cat([*(branch(x_BHWC) for branch in self.branches), language_BHWC], dim=-1))
        r_BHWC = F.relu(self.mix_bn(mixed.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        query_BHWC = self.norm_query(r_BHWC)
        r_BHWC = r_BHWC + self.agents(query_BHWC, self.norm_source(language_BHWC)) * query_BHWC
        out_BHWC = r_BHWC + self.ffn(self.norm_ffn(r_BHWC))
        return (x_BHWC if self.gate is None else x_BHWC + self.gate(out_BHWC)), out_BHWC


def _initialise(module: nn.Module) -> None:
    """Start linear layers as the authors' encoder does: truncated normal of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
