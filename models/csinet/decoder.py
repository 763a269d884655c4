"""Decoders and the prediction over both views (Section III-C, Equation 13)."""

# O = output channels, P = padded positions along an axis, Q = resized positions along it

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.constants import on_device

from .cda import CollaborativeDilatedAttention
from .views import Views, assemble, resize


@on_device
def _taps(size: int, new_size: int) -> Tensor:
    """Linear resize followed by the three taps of a zero-padded convolution along one axis, (new size, size, 3).

    Row y, tap t holds the weights with which a resized line (no aligned corners) gives its value at y + t - 1.
    """
    eye_PP = torch.eye(size, dtype=torch.float64)
    padded_QP = F.pad(F.interpolate(eye_PP[None], size=new_size, mode="linear")[0].T, (0, 0, 1, 1))
    return torch.stack([padded_QP[tap : tap + new_size] for tap in range(3)], dim=2)


def conv_of_resized(x_BCHW: Tensor, weight_OC33: Tensor, height: int, width: int) -> Tensor:
    """3 x 3 convolution, zero-padded by 1, of `x` resized bilinearly (no aligned corners): (B, O, height, width).

    Both steps are linear. The channels are mixed first, on the few positions of `x`; then one matrix per axis resizes
    and convolves. From 15 x 15 to 96 x 96 this is a thirtieth of the work, and the resized map of all input channels
    is never in memory.
    """
    _, dim, rows, cols = x_BCHW.shape
    outs = weight_OC33.shape[0]
    mixed = x_BCHW.permute(0, 2, 3, 1) @ weight_OC33.permute(1, 2, 3, 0).reshape(dim, 9 * outs)
    mixed = mixed.view(-1, rows, cols, 3, 3, outs).transpose(2, 3).reshape(-1, 3 * cols, outs)  # (B rows 3, cols 3, O)
    along = _taps(cols, width, mixed.device, mixed.dtype).view(width, 3 * cols) @ mixed
    down = _taps(rows, height, mixed.device, mixed.dtype).view(height, 3 * rows) @ along.view(
        -1, 3 * rows, width * outs
    )
    return down.view(-1, height, width, outs).permute(0, 3, 1, 2)


class CBR(nn.Module):
    """Convolution 3 x 3, BatchNorm and ReLU over the concatenation of maps, each resized to one size."""

    def __init__(self, *in_dims: int, hidden: int) -> None:
        """Build for maps of `in_dims` channels and `hidden` channels out."""
        super().__init__()
        self.in_dims = in_dims
        self.conv = nn.Conv2d(sum(in_dims), hidden, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)

    def forward(self, parts: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return (B, hidden, *size), the convolution of the concatenated maps as a sum over them."""
        weights = self.conv.weight.split(self.in_dims, dim=1)
        total: Tensor | int = 0
        for x_BCHW, weight_OC33 in zip(parts, weights, strict=True):
            if tuple(x_BCHW.shape[-2:]) == tuple(size):
                total = total + F.conv2d(x_BCHW, weight_OC33, padding=1)
            else:
                total = total + conv_of_resized(x_BCHW, weight_OC33, size[0], size[1])
        return F.relu(self.bn(total), inplace=True)


class Integration(nn.Module):
    """One step D_i: the coarser map meets the stage's features, then the skip from D_1."""

    def __init__(self, in_dim: int, fine_dim: int, top_dim: int | None, hidden: int) -> None:
        """Build for D_{i-1} of `in_dim` channels, features of `fine_dim`, D_1 of `top_dim` (None: no skip)."""
        super().__init__()
        self.merge = CBR(in_dim, fine_dim, hidden=hidden)
        self.has_skip = top_dim is not None
        self.skip = CBR(hidden, hidden=hidden) if top_dim is None else CBR(hidden, top_dim, hidden=hidden)

    def forward(self, coarse_BCHW: Tensor, fine_BCHW: Tensor, top_BCHW: Tensor) -> Tensor:
        """Return D_i, (B, hidden, H, W) at the size of `fine_BCHW`."""
        size = fine_BCHW.shape[-2:]
        x_BCHW = self.merge([coarse_BCHW, fine_BCHW], size)
        return self.skip([x_BCHW, top_BCHW] if self.has_skip else [x_BCHW], size)


class CDADecoder(nn.Module):
    """CDAD: collaboratively dilated attention on the last stage, then integration from coarse to fine.

    Attributes:
        width: channels of the returned map.
    """

    def __init__(
        self,
        widths: Sequence[int],
        hidden: int,
        n_view: int,
        attention: CollaborativeDilatedAttention | None,
        *,
        skip: bool = True,
        stages: int = 4,
    ) -> None:
        """Build for stages of `widths` channels, fine to coarse.

        Args:
            widths: channels of the encoder's stages.
            hidden: C_cmp.
            n_view: N.
            attention: CDA, or None to decode the last stage as it is.
            skip: hand D_1 to every step.
            stages: number of maps D_1, D_2, ...
        """
        super().__init__()
        self.n_view, self.attention = n_view, attention
        finer = list(reversed(widths[:-1]))[: stages - 1]
        in_dims = [widths[-1], *[hidden] * len(finer)]
        top_dim = widths[-1] if skip else None
        self.steps = nn.ModuleList(Integration(in_dims[i], fine, top_dim, hidden) for i, fine in enumerate(finer))
        self.width = in_dims[len(finer)]

    def forward(self, stages: Sequence[Tensor], last: Views) -> Tensor:
        """Return the last map D, both views along the batch.

        Args:
            stages: (B (1 + N N), C_i, H_i, W_i) features of all stages, fine to coarse.
            last: the last stage's maps by view.
        """
        enhanced = last if self.attention is None else self.attention(last)
        top_BCHW = x_BCHW = enhanced.to_batch(self.n_view).permute(0, 3, 1, 2)
        for step, fine_BCHW in zip(self.steps, reversed(stages[:-1]), strict=False):
            x_BCHW = step(x_BCHW, fine_BCHW, top_BCHW)
        return x_BCHW


class Prediction(nn.Module):
    """Two-class 1 x 1 convolution over Cat(Up(remote), Assemble(close)), as foreground minus background."""

    def __init__(self, width: int, n_view: int, *, remote: bool, close: bool) -> None:
        """Build for maps of `width` channels of the chosen views."""
        super().__init__()
        self.n_view, self.remote, self.close = n_view, remote, close
        self.head = nn.Conv2d((remote + close) * width, 2, 1)

    def forward(self, x_BCHW: Tensor, batch: int) -> Tensor:
        """Return logits (B, H, W) at the close view's size (the remote view's, if it is the only one).

        Args:
            x_BCHW: both views along the batch.
            batch: B, the number of scenes.
        """
        # A 1 x 1 convolution commutes with the bilinear resize, so that one channel is resized instead of all.
        weight_1C = self.head.weight[1:, :, 0, 0] - self.head.weight[:1, :, 0, 0]
        assert self.head.bias is not None
        bias_1 = self.head.bias[1:] - self.head.bias[:1]
        weights = weight_1C.split(x_BCHW.shape[1], dim=1)
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        if not self.close:
            return F.linear(x_BHWC, weights[0], bias_1)[..., 0]
        remote_BHWC, patches_BHWC = x_BHWC.split([batch * self.remote, len(x_BHWC) - batch * self.remote])
        logits_BHW1 = assemble(F.linear(patches_BHWC, weights[-1], bias_1), self.n_view)
        if self.remote:
            logits_BHW1 = logits_BHW1 + resize(F.linear(remote_BHWC, weights[0]), *logits_BHW1.shape[1:3])
        return logits_BHW1[..., 0]
