"""2-D sine positions for encoders with random weights, and the checks of the option `positions`."""

# K = frequencies

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rrsis_bench.backbones.constants import on_device
from rrsis_bench.errors import UserError


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Return 2-D positions, float32 (H, W, C): sines and cosines of the row in the first half, then of the column.

    The map's side spans one period of the first frequency; the others fall by powers of 10,000, as in Carion et al.,
    "End-to-End Object Detection with Transformers", ECCV 2020.
    """
    # Always on the CPU, whatever the default device is: the tables of encoders are filled from it.
    frequency_K = 10000 ** -(torch.arange(dim // 4, device="cpu") / (dim // 4))

    def axis(n: int) -> Tensor:
        angle_NK = (torch.arange(n, device="cpu") + 0.5)[:, None] * (2 * math.pi / n) * frequency_K
        return torch.cat([angle_NK.sin(), angle_NK.cos()], dim=1)

    rows_HWC = axis(height)[:, None].expand(height, width, dim // 2)
    columns_HWC = axis(width)[None].expand(height, width, dim // 2)
    return torch.cat([rows_HWC, columns_HWC], dim=2)


sine_positions_on = on_device(sine_positions)


def check_positions(field: str, positions: str, choices: Sequence[str], weights: str, **width: int) -> None:
    """Refuse an unknown choice of positions, or sines that do not fit the other options.

    Args:
        field: the configuration field of the backbone, for messages (``"vision"``).
        positions: the choice.
        choices: the known ones.
        weights: option of the backbone; a file has its own positions, or was trained without.
        width: the one field that holds the channels of the positions, a multiple of 4.

    Raises:
        UserError: names the field.
    """
    if positions not in choices:
        raise UserError(f"{field}.positions must be {' or '.join(choices)}, not '{positions}'.")
    if positions != "sine":
        return
    if weights != "random":
        raise UserError(f"{field}.positions=sine needs {field}.weights=random: a file has its own positions.")
    ((name, channels),) = width.items()
    if channels % 4:
        raise UserError(
            f"{field}.positions=sine needs {field}.{name} to be a multiple of 4 (sines and cosines of row and column), "
            f"not {channels}."
        )
