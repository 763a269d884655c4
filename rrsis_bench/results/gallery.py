"""Pictures of predictions: the image, the expression, the target and what the model answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric

from rrsis_bench.data.loader import ViewDataset, collate
from rrsis_bench.eval.counts import count
from rrsis_bench.interfaces import Segmenter

# Okabe and Ito's colours, told apart by colour-blind readers; none is common in vegetation, soil or asphalt.
TARGET_RGB = (204, 121, 167)
HIT_RGB = (0, 114, 178)
FALSE_RGB = (213, 94, 0)


def tint(
    image_HWC: np.ndarray, mask_HW: np.ndarray, colour: tuple[int, int, int], strength: float = 0.55
) -> np.ndarray:
    """Blend `colour` into uint8 (H, W, 3) where the bool mask is set."""
    out_HWC = image_HWC.astype(np.float32)
    out_HWC[mask_HW] = (1 - strength) * out_HWC[mask_HW] + strength * np.array(colour, dtype=np.float32)
    return out_HWC.round().astype(np.uint8)


def resize_to(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at the mask's size: a few datasets have pictures that differ from their masks by some pixels."""
    from PIL import Image

    if image_HWC.shape[:2] == size:
        return image_HWC
    return np.asarray(Image.fromarray(image_HWC).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def spread(n: int, count_: int) -> list[int]:
    """`count_` indices spread evenly over `n` samples."""
    return sorted({int(index) for index in np.linspace(0, n - 1, min(n, count_))})


def draw(
    path: Path,
    model: Segmenter,
    data: ViewDataset,
    indices: Sequence[int],
    fabric: Fabric,
    *,
    align_corners: bool,
    columns: int = 2,
) -> Path:
    """Write one PNG: per sample the image, the target (purple), and the prediction (blue right, orange wrong).

    Args:
        path: the PNG.
        model: in any mode; left in eval mode.
        data: made with ``native_masks=True``.
        indices: which samples.
        fabric: device and precision.
        align_corners: the protocol's way to resize logits.
        columns: samples side by side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    model.eval()
    rows = -(-len(indices) // columns)
    figure = Figure(figsize=(columns * 6.6, rows * 2.55), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns * 3, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for place, index in enumerate(indices):
        batch = collate([data[index]])
        sample, target_HW = batch.samples[0], batch.masks[0]
        views = {name: view.to(fabric.device) for name, view in batch.views.items()}
        text = {name: ids.to(fabric.device) for name, ids in batch.text.items()}
        size = (target_HW.shape[0], target_HW.shape[1])
        with fabric.autocast():
            pred_HW = model.predict_masks(views, text, [size], align_corners=align_corners)[0].cpu().numpy()
        image_HWC = resize_to(sample.read_image(), size)
        counts = count(pred_HW, target_HW)
        iou = f"IoU {100 * counts.intersection / counts.union:.0f}" if counts.union else "both empty"
        wrong_HWC = tint(tint(image_HWC, pred_HW & target_HW, HIT_RGB), pred_HW & ~target_HW, FALSE_RGB)
        cells = (
            (image_HWC, _wrapped(sample.expression)),
            (tint(image_HWC, target_HW, TARGET_RGB), f"target ({sample.category})"),
            (wrong_HWC, f"prediction, {iou}"),
        )
        row, column = divmod(place, columns)
        for offset, (picture, title) in enumerate(cells):
            axis = grid[row, column * 3 + offset]
            axis.imshow(picture)
            axis.set_title(title, fontsize=8)
            if offset and target_HW.any() and not target_HW.all():
                axis.contour(target_HW, levels=[0.5], colors="white", linewidths=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _wrapped(expression: str, width: int = 34) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(f"“{expression}”", width))
