"""NWPU-Refer: 15,003 pictures of 1024 to 2048 px, 49,745 annotations, 32 categories (Yang et al., the MRSNet paper).

On disk (the REFER layout, with polygons)::

    <root>/new_refs(unc).p        one pickled list of references; refs(unc).p where only that is there
    <root>/new_instances.json     images, annotations, categories; instances.json where only that is there
    <root>/image/*.jpg            or image/image/*.jpg

Facts of the format that a reader has to know:

- A multi-target expression stands in several references, one per object, with the same picture, split and words. They
  are merged into one sample whose mask is the union (``merge=False``: one sample per reference, each with a part of
  the mask and the same words). The two readings give other sample counts and other scores.
- ``no target`` is a category of its own. A reference of it, or one whose annotation has no polygon, denotes nothing:
  its mask is empty, whatever its ``bbox`` says.
- A reference's sentences are English and Chinese. A text with a Chinese character is Chinese, also where it has Latin
  letters; every other text is English. The paper uses the English ones.
- Masks are polygons, drawn by COCO's rule when a mask is read; see `polygons.py`.
- ``category_id`` here, not RRSIS-D's ``categories_id``; ``bbox`` and ``area`` are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from rrsis_bench.data import masks, polygons
from rrsis_bench.data.fingerprint import FingerprintRow
from rrsis_bench.data.images import read_rgb
from rrsis_bench.data.nwpu_files import (
    LANGUAGES,
    LAYOUT,
    NO_TARGET,
    Index,
    Mention,
    group,
    id_of,
    images_dir,
    refs_path,
)
from rrsis_bench.data.refer_files import language_of
from rrsis_bench.data.verify import ERROR
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample

__all__ = ["LANGUAGES", "LAYOUT", "NWPURefer", "open_split"]

SHOWN_DEFECTS = 20


def open_split(root: Path, split: str, *, language: str = "en", merge: bool = True) -> NWPURefer:
    """Open one split; see `NWPURefer`."""
    return NWPURefer(root, split, language=language, merge=merge)


class NWPURefer(ReferringDataset):
    """One split of NWPU-Refer, in the order of its references; also reads whatever is written in its layout.

    A sample's id is the smallest reference id that it was made of, and the place of its sentence in that reference. Its
    category is None where the merged references differ in theirs.

    Args:
        root: the dataset's folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        language: ``"en"``, ``"zh"`` or ``"all"``.
        merge: references with the same picture and expression become one sample.

    Raises:
        UserError: another value of an option, the dataset is missing (with where to get it), or a file or a record that
            the split needs is damaged; the message names every damaged record, of other splits too.
    """

    name = "nwpu_refer"

    def __init__(self, root: Path | str, split: str, *, language: str = "en", merge: bool = True):
        if language not in LANGUAGES:
            raise UserError(f"data.options.language={language!r} is not one of: {', '.join(LANGUAGES)}.")
        if not isinstance(merge, bool):
            raise UserError(f"data.options.merge={merge!r} must be true or false.")
        self.root, self.split, self.language, self.merge = Path(root), split, language, merge
        index = Index.read(self.root)
        _refuse(index, split)
        self.category_names = tuple(index.names.values())
        groups, self.notes = group(index, split, language, merge=merge)
        if not groups:
            raise UserError(
                f"{refs_path(self.root)} has no expression of language '{language}' in split '{split}'. {self.notes[0]}"
            )
        self._ids: list[str] = []
        self._expressions: list[str] = []
        self._categories: list[str | None] = []
        self._images: list[tuple[str, str, int, int]] = []  # id, file name, height, width
        self._shapes = _Shapes()
        for members in groups:
            self._append(index, members)
        self._shapes.seal()

    def _append(self, index: Index, members: list[Mention]) -> None:
        """Add the sample that one group makes."""
        sample_id = min(f"{id_of(ref['ref_id'])}-{place}" for ref, place, _ in members)
        refs = [ref for ref, _, _ in members]
        targets = {ref["ann_id"]: ref for ref in refs if not index.no_target(ref)}
        names = {index.names[ref["category_id"]] for ref in targets.values()} or {NO_TARGET}
        image = index.images[refs[0]["image_id"]]
        self._ids.append(sample_id)
        self._expressions.append(members[0][2])
        self._categories.append(names.pop() if len(names) == 1 else None)
        self._images.append((str(image["id"]), image["file_name"], image["height"], image["width"]))
        self._shapes.append([index.shapes[ann_id] for ann_id in sorted(targets, key=str)])

    def __len__(self) -> int:
        """Number of samples of the split."""
        return len(self._ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk and no polygon is drawn."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        shapes = self._shapes.of(index)
        image_id, file_name, height, width = self._images[index]
        return Sample(
            sample_id=self._ids[index],
            image_id=image_id,
            expression=self._expressions[index],
            language=language_of(self._expressions[index]),
            category=self._categories[index],
            n_targets=len(shapes),
            read_image=partial(read_rgb, str(images_dir(self.root) / file_name)),
            read_mask=partial(_read_mask, shapes, (height, width)),
            read_rle=partial(polygons.rasterise, shapes, (height, width)),
        )

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; see `fingerprint.py`. Polygons count as they are written."""
        folder = images_dir(self.root)
        for index, (_, file_name, height, width) in enumerate(self._images):
            drawn = [f"{height} {width}".encode()]
            for shape in self._shapes.of(index):
                drawn += [shape["counts"]] if isinstance(shape, dict) else [points.tobytes() for points in shape]
            yield FingerprintRow(
                sample_id=self._ids[index],
                expression=self._expressions[index],
                category=self._categories[index],
                mask=b"".join(len(part).to_bytes(8, "little") + part for part in drawn),
                image=folder / file_name,
            )


def _refuse(index: Index, split: str) -> None:
    """Raise one UserError that names every error in the records, if any of them touches `split`."""
    errors = [defect for defect in index.defects if defect.finding.severity == ERROR]
    if not any(defect.split in (split, None) for defect in errors):
        return
    own = sorted(errors, key=lambda defect: defect.split not in (split, None))
    found = [f"  {d.finding.kind} {d.finding.where}: {d.finding.message}" for d in own[:SHOWN_DEFECTS]]
    if len(own) > SHOWN_DEFECTS:
        kinds = Counter(defect.finding.kind for defect in own[SHOWN_DEFECTS:])
        found.append("  and " + ", ".join(f"{count} more of kind {kind}" for kind, count in sorted(kinds.items())))
    raise UserError(
        f"{len(errors)} records of NWPU-Refer in {index.root} are damaged:\n" + "\n".join(found) + "\nMend or remove "
        f"them. All of them, and the pictures', are listed by: rrsis-bench data verify nwpu_refer --root {index.root}"
    )


def _read_mask(shapes: Iterable[polygons.Shape], size: tuple[int, int]) -> np.ndarray:
    """Draw shapes as bool (H, W)."""
    return masks.decode(polygons.rasterise(shapes, size))


class _Shapes:
    """The shapes of every sample as flat arrays: tens of thousands of polygons without an object for each number."""

    def __init__(self) -> None:
        self._new: list[np.ndarray] = []
        self._points = np.zeros(0)
        self._ends: list[int] = [0]  # of the parts, in points
        self._shape_parts: list[int] = [0]  # of the shapes, in parts
        self._sample_shapes: list[int] = [0]  # of the samples, in shapes
        self._rles: dict[int, masks.Rle] = {}  # shape -> mask, for those that are not polygons

    def append(self, shapes: list[polygons.Shape]) -> None:
        """Add a sample's shapes."""
        for shape in shapes:
            if isinstance(shape, dict):
                self._rles[len(self._shape_parts) - 1] = shape
            else:
                for points in shape:
                    self._new.append(points)
                    self._ends.append(self._ends[-1] + len(points))
            self._shape_parts.append(len(self._ends) - 1)
        self._sample_shapes.append(len(self._shape_parts) - 1)

    def seal(self) -> None:
        """Put what was added into one array."""
        self._points, self._new = np.concatenate([self._points, *self._new]), []

    def of(self, index: int) -> list[polygons.Shape]:
        """The shapes of sample `index`."""
        found: list[polygons.Shape] = []
        for shape in range(self._sample_shapes[index], self._sample_shapes[index + 1]):
            if shape in self._rles:
                found.append(self._rles[shape])
                continue
            parts = range(self._shape_parts[shape], self._shape_parts[shape + 1])
            found.append([self._points[self._ends[part] : self._ends[part + 1]].copy() for part in parts])
        return found
