"""Overlay of a prediction: the image, each expression's mask in its own colour, and a legend."""

# P = pixels inside the mask

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 2000  # pixels: longest side; a larger image is reduced
SMALL = 480  # pixels: a smaller image is enlarged to at least this, each pixel to a square
SHOWN = 8  # expressions that are drawn; the others are counted
STRENGTH = 0.45
NARROWEST = 480  # pixels: least width of the legend
LONGEST = 400  # characters of an expression that the legend may show

# Okabe and Ito's colours, which colour-blind readers can distinguish, ordered by contrast with land and water.
COLOURS = (
    (0, 114, 178), (213, 94, 0), (240, 228, 66), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 158, 115),
    (160, 160, 160),
)  # fmt: skip


class Overlay:
    """Collect an image and its masks at reduced size, from top to bottom.

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
        """Add rows of the 8-bit image, from `row` on."""
        rows = np.arange(-(-row // self._step) * self._step, row + len(pixels_HWC), self._step)
        self._pixels_HWC[rows // self._step] = pixels_HWC[rows - row, :: self._step]

    def add_mask(self, index: int, row: int, mask_HW: np.ndarray) -> None:
        """Add rows of one expression's mask, bool. A reduced mask keeps every pixel, so no object is lost."""
        if index >= len(self._masks):
            return
        if self._step > 1:
            mask_HW = np.logical_or.reduceat(mask_HW, np.arange(0, mask_HW.shape[1], self._step), axis=1)
            places = np.arange(row, row + len(mask_HW)) // self._step
            starts = np.flatnonzero(np.diff(places, prepend=-1))
            mask_HW = np.logical_or.reduceat(mask_HW, starts, axis=0)
            row = int(places[0])
        self._masks[index, row : row + len(mask_HW)] |= mask_HW

    def image(self) -> np.ndarray:
        """Return the image under its masks, uint8 (h, w, 3), with borders in full colour."""
        factor = max(1, -(-SMALL // max(self._pixels_HWC.shape[:2])))
        shown_HWC = _enlarged(self._pixels_HWC, factor)
        line = max(2, max(shown_HWC.shape[:2]) // 500)
        for colour, mask_HW in zip(COLOURS, self._masks, strict=False):
            if not mask_HW.any():
                continue
            drawn_HW = _enlarged(mask_HW, factor)
            inside_P3 = shown_HWC[drawn_HW].astype(np.float32)
            shown_HWC[drawn_HW] = np.rint((1 - STRENGTH) * inside_P3 + STRENGTH * np.array(colour)).astype(np.uint8)
            inner_HW = drawn_HW
            for _ in range(line):
                inner_HW = _shrunk(inner_HW)
            shown_HWC[drawn_HW & ~inner_HW] = colour
        return shown_HWC

    def save(self, path: Path) -> None:
        """Write the image with its legend below as PNG."""
        image_HWC = self.image()
        legend_HWC = self._legend(max(image_HWC.shape[1], NARROWEST))
        height, width = image_HWC.shape[:2]
        page_HWC = np.full((height + len(legend_HWC), legend_HWC.shape[1], 3), 255, dtype=np.uint8)
        page_HWC[:height, :width] = image_HWC
        page_HWC[height:] = legend_HWC
        Image.fromarray(page_HWC).save(path, format="PNG")

    def _legend(self, width: int) -> np.ndarray:
        """Draw the expressions beside their colours, uint8 (h, width, 3)."""
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from rrsis_bench.results.render.fonts import lettering

        more = len(self._expressions) - SHOWN
        letters = lettering(self._expressions[:SHOWN])
        scale = max(1.0, width / 1000)  # a large image is shown smaller on a screen
        lines = [_line(letters(expression)) for expression in self._expressions[:SHOWN]]
        lines += [f"and {more} more, not drawn"] if more > 0 else []
        step = round(24 * scale)
        height = step * len(lines) + round(12 * scale)
        with rc_context({"font.family": list(letters.families)}):
            # Inches times dpi may end just below a whole pixel, which some versions of matplotlib cut off.
            size = ((width + 0.2) / 100, (height + 0.2) / 100)
            figure = Figure(figsize=size, dpi=100, facecolor="white")
            canvas = FigureCanvasAgg(figure)
            axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
            axes.set_axis_off()
            for index, line in enumerate(lines):
                middle = round(6 * scale) + step * (index + 0.5)
                if index < min(SHOWN, len(self._expressions)):
                    colour = tuple(level / 255 for level in COLOURS[index])
                    axes.plot(14 * scale, middle, "s", color=colour, markersize=10 * scale, clip_on=False)
                text = axes.text(28 * scale, middle, line, fontsize=11 * scale, va="center_baseline", parse_math=False)
                _fit(text, line, width - 36 * scale)
            canvas.draw()  # type: ignore[no-untyped-call]
            return np.array(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    """Return a copy of (h, w, ...) with each pixel as a square of factor x factor."""
    return np.repeat(np.repeat(array, factor, axis=0), factor, axis=1)


def _shrunk(mask_HW: np.ndarray) -> np.ndarray:
    """Return the mask without the pixels that have a neighbour outside the mask or the image."""
    padded = np.pad(mask_HW, 1)
    inner_HW: np.ndarray = mask_HW & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner_HW


def _line(expression: str) -> str:
    """Return an expression on one line, cut to what a legend can show."""
    return " ".join(expression.split())[:LONGEST]


def _fit(text: Any, line: str, room: float) -> None:
    """Shorten matplotlib's `text` to at most `room` pixels. It has to be measured: letters differ in width."""
    wide = text.get_window_extent().width
    while wide > room and line:
        line = line[: min(len(line) - 1, int(len(line) * room / wide))].rstrip()
        text.set_text(f"{line}…")
        wide = text.get_window_extent().width
