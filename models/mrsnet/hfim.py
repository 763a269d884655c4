"""Hierarchical feature integration (Section III-C): all stages on the coarsest grid, in space and in frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.errors import UserError

from .spectrum import full_precision

HEADS = 8


class LocalBranch(nn.Module):
    """Depthwise 3 x 3 and 1 x 1 convolution, BN, ReLU."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.point = nn.Conv2d(dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return F_local (B, C, H, W)."""
        return F.relu(self.bn(self.point(self.depthwise(x_BCHW))))


class GlobalAttention(nn.Module):
    """Multi-head self-attention between all positions."""

    def __init__(self, dim: int, heads: int = HEADS) -> None:
        """Build for `dim` channels, which `heads` divides."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return F_global (B, C, H, W)."""
        qkv = self.qkv(x_BCHW.flatten(2).transpose(1, 2)).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, C / heads)
        found_BNC = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.out(found_BNC).transpose(1, 2).unflatten(2, x_BCHW.shape[-2:])


class FrequencyAttention(nn.Module):
    """IFFT(Softmax(Re(Q_f K_f^T) / sqrt(d_k)) V_f) with Q_f, K_f, V_f the transforms of projected maps.

    A token is a frequency, and its features are complex. The scores are the real part of the product, without a
    conjugate, as the transpose is printed. The weights of -u and -v are those of u and v, so that the result is real.
    """

    def __init__(self, dim: int, heads: int = HEADS) -> None:
        """Build for `dim` channels, which `heads` divides."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)  # a bias would change frequency 0 alone

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return F_freq (B, C, H, W); computed in float32 or float64 from the projections on, with autocast off."""
        size = x_BCHW.shape[-2:]
        qkv = self.qkv(x_BCHW.permute(0, 2, 3, 1)).unflatten(3, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
        with torch.autocast(x_BCHW.device.type, enabled=False):
            query, key, value = full_precision(qkv).unbind(0)  # (B, heads, H, W, d)
            dim = query.shape[-1]
            # Results for half of the columns are enough: the inverse transform mirrors them.
            query = torch.view_as_real(torch.fft.rfft2(query, dim=(2, 3), norm="ortho"))  # (B, heads, H, W', d, 2)
            key = torch.view_as_real(torch.fft.fft2(key, dim=(2, 3), norm="ortho").conj().resolve_conj())
            value = torch.view_as_real(torch.fft.fft2(value, dim=(2, 3), norm="ortho"))
            # Re(q k) = Re(q) Re(k) - Im(q) Im(k): a real attention over both parts as features, k conjugated.
            tokens = [part.flatten(4).flatten(2, 3) for part in (query, key, value)]
            found = F.scaled_dot_product_attention(tokens[0], tokens[1], tokens[2], scale=dim**-0.5)
            found = torch.view_as_complex(found.view(query.shape).contiguous())
            out = torch.fft.irfft2(found, s=size, dim=(2, 3), norm="ortho")
        return out.permute(0, 1, 4, 2, 3).flatten(1, 2).to(x_BCHW.dtype)


class HFIM(nn.Module):
    """Concatenate the stages on the coarsest grid, mix them in three branches, and add to every stage its part.

    Pixel unshuffling brings a stage to that grid. `reduce` then restores its own number of channels by 1 x 1
    convolutions, and others expand the parts again before the pixel shuffle: 1920 channels in all for Swin-B instead of
    15 360.
    """

    def __init__(self, widths: Sequence[int], *, reduce: bool = True) -> None:
        """Build for stages of `widths` channels, each on half the grid of the one before.

        Raises:
            UserError: the heads of the attentions do not divide the channels.
        """
        super().__init__()
        self.factors = [2 ** (len(widths) - 1 - index) for index in range(len(widths))]
        spread = [width * factor**2 for width, factor in zip(widths, self.factors, strict=True)]
        self.parts = list(widths) if reduce else spread
        # The last stage is on the grid already.
        pairs = list(zip(spread[:-1], widths[:-1], strict=True)) if reduce else []
        self.down = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairs)
        self.up = nn.ModuleList(nn.Conv2d(narrow, wide, 1) for wide, narrow in pairs)
        dim = sum(self.parts)
        if dim % HEADS:
            raise UserError(
                f"MRSNet's neck: {HEADS} heads do not divide its {dim} channels, the sum over all stages. Choose a "
                f"vision.embed_dim that {HEADS} divides."
            )
        self.local = LocalBranch(dim)
        self.wide = GlobalAttention(dim)
        self.frequency = FrequencyAttention(dim)
        self.fuse = nn.Conv2d(3 * dim, dim, 1)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the integrated stages, in the sizes that they came in.

        Maps whose sides are not multiples of the coarsest grid are padded with zeros at the right and at the bottom.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
        """
        height, width = stages[-1].shape[-2:]
        parts = []
        for index, (stage, factor) in enumerate(zip(stages, self.factors, strict=True)):
            pad = (0, factor * width - stage.shape[-1], 0, factor * height - stage.shape[-2])
            part = F.pixel_unshuffle(F.pad(stage, pad), factor)
            parts.append(self.down[index](part) if index < len(self.down) else part)
        x_BCHW = torch.cat(parts, dim=1)
        branches = (self.local(x_BCHW), self.wide(x_BCHW), self.frequency(x_BCHW))
        fused = self.fuse(torch.cat(branches, dim=1)).split(self.parts, dim=1)
        outputs = []
        for index, (stage, part, factor) in enumerate(zip(stages, fused, self.factors, strict=True)):
            part = F.pixel_shuffle(self.up[index](part) if index < len(self.up) else part, factor)
            outputs.append(stage + part[..., : stage.shape[-2], : stage.shape[-1]])
        return outputs
