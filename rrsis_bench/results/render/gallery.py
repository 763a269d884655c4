"""A run's gallery, ``runs/<run_id>/report.html``: its worst, best and most different predictions.

The run's integers alone decide which samples are shown. The page is self-contained: it holds its images, of at most
`SIDE` pixels, some 2 MB in all.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric
from PIL import Image

from rrsis_bench.codec import parse_json
from rrsis_bench.config.protocol import Protocol
from rrsis_bench.data.loading.loader import ViewDataset, collate
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import Array, CountsTable, SampleCounts
from rrsis_bench.eval.mask_maker import MaskMaker, scoring_order
from rrsis_bench.eval.metrics import score_samples
from rrsis_bench.files import write_files
from rrsis_bench.interfaces import ReferringDataset, Segmenter
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render import page

NAME = "report.html"
EACH = 6  # samples per section
PAIRS = 4  # pairs of expressions, two samples each
SIDE = 400  # longest side of an image in the page, pixels

# Okabe and Ito's colours, told apart by colour-blind readers; none is common in vegetation, soil or asphalt.
TARGET_RGB = (204, 121, 167)
HIT_RGB = (0, 114, 178)
FALSE_RGB = (213, 94, 0)

Masks = Callable[[Collection[int]], dict[int, Array]]
"""Indices of a split -> the predicted masks, bool (H, W) at native size."""


@dataclass(frozen=True, slots=True)
class GallerySelection:
    """Indices of a split, each list most remarkable first; `pairs` are two expressions of one image."""

    worst: list[int]
    best: list[int]
    typical: list[int]
    pairs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class CardImage:
    """One image of a card."""

    words: str
    alt: str
    uri: str
    side: tuple[int, int]  # width, height in pixels


@dataclass(frozen=True, slots=True)
class Card:
    """One sample in the page."""

    sample_id: str
    expression: str
    category: str
    line: str
    images: tuple[CardImage, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Cards under a heading."""

    title: str
    note: str
    cards: list[Card]


def choose(table: CountsTable, protocol: Protocol, each: int = EACH, pairs: int = PAIRS) -> GallerySelection:
    """Select the samples of a gallery.

    Worst and best are the lowest and highest IoU, at most one per image, equal ones by the larger target (the more
    visible miss or hit); typical ones are spread evenly over the ranks. Pairs are two expressions of one image between
    which the IoU differs most, one pair per image: one that the model finds, one that it misses.
    """
    iou_N, rows = score_samples(table, protocol).iou_N, list(table)
    falling = sorted(range(len(rows)), key=lambda i: (-iou_N[i], -rows[i].native_area, i))
    rising = sorted(range(len(rows)), key=lambda i: (iou_N[i], -rows[i].native_area, i))
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row.image_id, []).append(index)
    widest = []
    for indices in members.values():
        top, low = max(indices, key=lambda i: (iou_N[i], -i)), min(indices, key=lambda i: (iou_N[i], i))
        if iou_N[top] > iou_N[low]:
            widest.append((top, low))
    widest.sort(key=lambda pair: (iou_N[pair[1]] - iou_N[pair[0]], pair))
    typical = [rising[place] for place in spread(len(rows), each)]
    return GallerySelection(
        _one_per_image(rising, rows, each), _one_per_image(falling, rows, each), typical, widest[:pairs]
    )


def most_disagreed(
    table: CountsTable, other: CountsTable, protocol: Protocol, other_protocol: Protocol, each: int = EACH
) -> list[int]:
    """The samples between whose IoU in two runs the gap is largest; equal gaps and no gap are left out.

    Raises:
        UserError: the two runs did not score the same samples in the same order.
    """
    if [row.sample_id for row in table] != [row.sample_id for row in other]:
        raise UserError("The two runs did not score the same samples, so their predictions cannot be compared.")
    gap_N = np.abs(score_samples(table, protocol).iou_N - score_samples(other, other_protocol).iou_N)
    order = sorted(range(len(table)), key=lambda i: (-gap_N[i], i))
    return [index for index in _one_per_image(order, list(table), each) if gap_N[index] > 0]


def spread(n: int, count: int) -> list[int]:
    """`count` places spread evenly over `n`, the ends included."""
    return sorted({int(index) for index in np.linspace(0, n - 1, min(n, count))})


def predictor(model: Segmenter, data: ViewDataset, fabric: Fabric, *, align_corners: bool) -> Masks:
    """Return predictions of a model in memory; it is left in eval mode.

    Args:
        model: put into eval mode.
        data: made with ``native_masks=True``.
        fabric: device and precision.
        align_corners: the protocol's way to resize logits.
    """

    def predict(indices: Collection[int]) -> dict[int, Array]:
        model.eval()
        make_masks = MaskMaker(model, fabric, align_corners=align_corners)
        wanted = list(indices)
        found = {}
        for place in scoring_order(model, data.dataset, wanted):
            batch = collate([data[wanted[place]]])
            height, width = batch.masks[0].shape
            found[wanted[place]] = make_masks(batch, [(height, width)])[0].cpu().numpy()
        return found

    return predict


def stored(path: Path, dataset: ReferringDataset) -> Masks:
    """Predictions that ``predictions=save`` left in `path`; only those that are asked for are decoded."""

    def read(indices: Collection[int]) -> dict[int, Array]:
        wanted = {dataset[index].sample_id: index for index in indices}
        found = {}
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    entry = parse_json(line)
                    if entry["sample_id"] in wanted:
                        rle = masks.parse(entry["rle"])
                        found[wanted[entry["sample_id"]]] = masks.decode(rle)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}). `rrsis-bench evaluate checkpoint=RUN "
                "predictions=save` writes a run's masks."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}). Write it again with predictions=save.") from error
        missing = [sample_id for sample_id, index in wanted.items() if index not in found]
        if missing:
            raise UserError(f"{path} lacks sample {missing[0]}. Write it again with predictions=save.")
        return found

    return read


def write(
    path: Path,
    record: Record,
    table: CountsTable,
    dataset: ReferringDataset,
    predict: Masks,
    against: tuple[Record, CountsTable, Masks] | None = None,
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        record: of the run.
        table: its integers, in the order of `dataset`.
        dataset: the split that was scored.
        predict: the run's masks.
        against: another run's record, integers and masks, for "most disagreed".

    Raises:
        UserError: an image or a mask cannot be read, or the file cannot be written.
    """
    choice = choose(table, record.protocol)
    iou_N = score_samples(table, record.protocol).iou_N
    gaps: list[int] = []
    others: dict[int, Array] = {}
    if against is not None:
        gaps = most_disagreed(table, against[1], record.protocol, against[0].protocol)
        others = against[2](gaps)
    paired = [index for pair in choice.pairs for index in pair]
    shown = sorted({*choice.worst, *choice.best, *choice.typical, *paired, *gaps})
    preds = predict(shown)

    def cards(indices: Sequence[int]) -> list[Card]:
        return [_card(dataset, index, [("prediction", preds[index], iou_N[index])]) for index in indices]

    sections = []
    if against is not None:
        other_N = score_samples(against[1], against[0].protocol).iou_N
        both = [
            _card(
                dataset,
                index,
                [(record.run_id, preds[index], iou_N[index]), (against[0].run_id, others[index], other_N[index])],
            )
            for index in gaps
        ]
        note = f"The samples on which the IoU differs most from that of {against[0].run_id}, one per image."
        sections.append(Section("Most disagreed with another run", note, both))
    sections.append(Section("Worst", "The lowest IoU, one per image; the larger target first.", cards(choice.worst)))
    note = (
        "Two expressions of one image between which the IoU differs most: one that the model finds, one that it misses."
    )
    if not choice.pairs:
        note = "No image of this split has two expressions of different IoU."
    sections.append(Section("Most disagreed within an image", note, cards(paired)))
    sections.append(Section("Best", "The highest IoU, one per image; the larger target first.", cards(choice.best)))
    note = "Spread evenly over the split from the worst to the best: the usual quality."
    sections.append(Section("Typical", note, cards(choice.typical)))
    colours = [
        ("target", _css(TARGET_RGB)),
        ("predicted and right", _css(HIT_RGB)),
        ("predicted and wrong", _css(FALSE_RGB)),
    ]
    control = {name.replace("_", " "): group.scores["miou"].value for name, group in record.control.items()}
    write_files(
        {
            path: page.fill(
                "report.html.j2",
                record=record,
                miou=record.overall.scores.get("miou") if record.overall else None,
                oiou=record.value("oiou"),
                sections=sections,
                colours=colours,
                control=control,
            )
        }
    )
    return path


def tint(image_HWC: Array, mask_HW: Array, colour: tuple[int, int, int], strength: float = 0.55) -> Array:
    """Blend `colour` into uint8 (H, W, 3) at the pixels of the bool mask."""
    out_HWC = image_HWC.astype(np.float32)
    out_HWC[mask_HW] = (1 - strength) * out_HWC[mask_HW] + strength * np.array(colour, dtype=np.float32)
    return out_HWC.round().astype(np.uint8)


def outline(mask_HW: Array) -> Array:
    """Bool (H, W): the pixels just outside the mask, by their four neighbours."""
    padded = np.pad(mask_HW, 1)
    grown = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return np.asarray(grown & ~mask_HW)


def _card(dataset: ReferringDataset, index: int, runs: Sequence[tuple[str, Array, float]]) -> Card:
    sample = dataset[index]
    target_HW = sample.read_mask()
    height, width = target_HW.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # In a few datasets, images and masks differ by some pixels. All are resized to one size here.
    image_HWC = np.asarray(Image.fromarray(sample.read_image()).resize(size, Image.Resampling.BILINEAR))
    target_hw = _shrunk(target_HW, size)
    edge_hw = outline(target_hw)
    about = f"for “{sample.expression}”"
    images = [
        _card_image("image", f"The image {about}", image_HWC),
        _card_image("target", f"The target {about}", _edged(tint(image_HWC, target_hw, TARGET_RGB), edge_hw)),
    ]
    for name, pred_HW, iou in runs:
        pred_hw = _shrunk(pred_HW, size)
        seen_HWC = tint(tint(image_HWC, pred_hw & target_hw, HIT_RGB), pred_hw & ~target_hw, FALSE_RGB)
        empty = "" if pred_HW.any() else ", empty"
        words = f"{name}, IoU {100 * iou:.0f}{empty}"
        images.append(_card_image(words, f"The prediction of {name} {about}", _edged(seen_HWC, edge_hw)))
    line = "no target" if not target_HW.any() else f"{100 * target_HW.mean():.2g}% of the image"
    category = "" if sample.category == line else sample.category or ""  # NWPU-Refer's category "no target"
    return Card(sample.sample_id, sample.expression, category, line, tuple(images))


def _shrunk(mask_HW: Array, size: tuple[int, int]) -> Array:
    return np.asarray(Image.fromarray(mask_HW).resize(size, Image.Resampling.NEAREST))


def _edged(image_HWC: Array, edge_HW: Array) -> Array:
    out_HWC = image_HWC.copy()
    out_HWC[edge_HW] = 255
    return out_HWC


def _card_image(words: str, alt: str, image_HWC: Array) -> CardImage:
    packed = io.BytesIO()
    Image.fromarray(image_HWC).save(packed, format="WEBP", quality=80)
    uri = "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return CardImage(words, alt, uri, (image_HWC.shape[1], image_HWC.shape[0]))


def _one_per_image(order: Sequence[int], rows: Sequence[SampleCounts], limit: int) -> list[int]:
    found: dict[str, int] = {}
    for index in order:
        found.setdefault(rows[index].image_id, index)
        if len(found) == limit:
            break
    return list(found.values())


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
