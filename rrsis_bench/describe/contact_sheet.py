"""``rrsis-bench data show``: samples of a dataset on one image, each with its mask and its expression."""

from __future__ import annotations

import io
import math
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image

from rrsis_bench.errors import UserError
from rrsis_bench.files import write_bytes
from rrsis_bench.interfaces import ReferringDataset
from rrsis_bench.predict.outputs.overlay import Overlay

COLUMNS = 4
SIDE = 3.2
"""Inches of one image; the file has `DPI` pixels per inch."""
DPI = 100
LINE = 46
LINES = 3
"""Longest line of an expression in characters, and lines that are shown."""


def choose(dataset: ReferringDataset, n: int, seed: int) -> list[int]:
    """Return the places of `n` samples, drawn without replacement and in order; all of them if there are fewer."""
    places = np.random.default_rng(seed).permutation(len(dataset))[:n]
    return sorted(int(place) for place in places)


def write(dataset: ReferringDataset, places: list[int], out: Path) -> None:
    """Write the contact sheet as PNG.

    Args:
        dataset: an opened split.
        places: of the samples that are drawn.
        out: the file.

    Raises:
        UserError: a sample cannot be read, there is none, or the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from rrsis_bench.results.render.fonts import lettering

    if not places:
        raise UserError(f"The split '{dataset.split}' of {dataset.name} has no sample to show.")
    samples = [dataset[place] for place in places]
    letters = lettering([f"{sample.expression} {sample.category or ''}" for sample in samples])
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    with rc_context({"font.family": list(letters.families)}):
        figure = Figure(figsize=(SIDE * columns, (SIDE + 0.75) * rows), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, sample in zip(grid.flat, samples, strict=False):
            mask_HW = sample.read_mask()
            axes.imshow(_drawn(sample.read_image(), mask_HW))
            lines = wrap(letters(" ".join(sample.expression.split())), LINE)[:LINES]
            share = 100 * float(mask_HW.mean())
            below = f"{sample.sample_id}: {sample.category or 'no category'}, {share:.1f}% of the image"
            axes.set_title("\n".join(lines), fontsize=9, loc="left", parse_math=False)
            axes.text(0, -0.02, letters(below), fontsize=7, va="top", transform=axes.transAxes, parse_math=False)
        packed = io.BytesIO()
        figure.savefig(packed, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(out, packed.getvalue())


def _drawn(image_HWC: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """Return the image under its mask, uint8; an image of another size than its mask is resized to it."""
    height, width = mask_HW.shape
    if image_HWC.shape[:2] != (height, width):
        image_HWC = np.asarray(Image.fromarray(image_HWC).resize((width, height)))
    overlay = Overlay(height, width, [""])
    overlay.add_pixels(0, image_HWC)
    overlay.add_mask(0, 0, mask_HW)
    return overlay.image()
