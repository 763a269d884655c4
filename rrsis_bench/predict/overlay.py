"""The picture of a prediction: the image with each expression's mask in a colour of its own, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIDE = 2000  # longest side, pixels
SHOWN = 8  # expressions with a colour; the rest is counted
STRENGTH = 0.5

# Okabe and Ito's colours, told apart by colour-blind readers; strong ones first.
COLOURS = (
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (240, 228, 66), (86, 180, 233), (230, 159, 0), (0, 158, 115),
    (160, 160, 160),
)  # fmt: skip


class Overlay:
    """Collects an image and its masks at reduced size, from top to bottom.

    Args:
        height, width: of the image in pixels.
        expressions: one per mask.
    """

    def __init__(self, height: int, width: int, expressions: Sequence[str]):
        self._step = max(1, -(-max(height, width) // SIDE))
        self._expressions = list(expressions)
        shape = (-(-height // self._step), -(-width // self._step))
        self._pixels_HWC = np.zeros((*shape, 3), dtype=np.uint8)
        self._masks = np.zeros((min(SHOWN, len(expressions)), *shape), dtype=bool)

    def add_pixels(self, row: int, pixels_HWC: np.ndarray) -> None:
        """Take in rows of the 8-bit image, from `row` on."""
        rows = self._rows(row, len(pixels_HWC))
        self._pixels_HWC[rows // self._step] = pixels_HWC[rows - row, :: self._step]

    def add_mask(self, index: int, row: int, mask_HW: np.ndarray) -> None:
        """Take in rows of one expression's mask, bool."""
        if index < len(self._masks):
            rows = self._rows(row, len(mask_HW))
            self._masks[index, rows // self._step] = mask_HW[rows - row, :: self._step]

    def _rows(self, row: int, count: int) -> np.ndarray:
        """Those of the given rows that are kept."""
        return np.arange(-(-row // self._step) * self._step, row + count, self._step)

    def picture(self) -> np.ndarray:
        """The image under its masks, uint8 (h, w, 3); borders are drawn in full colour."""
        shown_HWC = self._pixels_HWC.astype(np.float32)
        for colour, mask_HW in zip(COLOURS, self._masks, strict=False):
            shown_HWC[mask_HW] = (1 - STRENGTH) * shown_HWC[mask_HW] + STRENGTH * np.array(colour)
            padded = np.pad(mask_HW, 1)
            inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
            shown_HWC[mask_HW & ~inner] = colour
        return np.rint(shown_HWC).astype(np.uint8)

    def save(self, path: Path) -> None:
        """Write the picture with its legend as PNG."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        from rrsis_bench.results.fonts import lettering

        picture_HWC = self.picture()
        height, width = picture_HWC.shape[:2]
        inches = max(width, 400) / 100
        lines = len(self._masks) + (len(self._expressions) > SHOWN)
        below = 0.3 * lines + 0.2
        figure = Figure(figsize=(inches, inches * height / width + below), dpi=100)
        axes = figure.add_axes((0, below / (inches * height / width + below), 1, 1 - below / figure.get_figheight()))
        axes.imshow(picture_HWC)
        axes.set_axis_off()
        longest = max(20, int(inches * 12))
        letters = lettering(self._expressions[:SHOWN])
        handles = [
            Patch(color=(colour[0] / 255, colour[1] / 255, colour[2] / 255), label=_short(letters(expression), longest))
            for colour, expression in zip(COLOURS, self._expressions, strict=False)
        ]
        if len(self._expressions) > SHOWN:
            handles.append(Patch(color="none", label=f"and {len(self._expressions) - SHOWN} more, not drawn"))
        with rc_context({"font.family": list(letters.families)}):
            figure.legend(handles=handles, loc="lower left", frameon=False, fontsize=10, borderaxespad=0.3)
            figure.savefig(path, format="png")


def _short(expression: str, longest: int) -> str:
    """One line; `$` would start a formula, a leading underscore hide the entry."""
    line = " ".join(expression.split()).replace("$", r"\$")
    line = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return f" {line}" if line.startswith("_") else line
