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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rrsis_bench.data.checks.fingerprint import FingerprintRow
from rrsis_bench.data.checks.verify import ERROR
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.columns import Shapes, Texts
from rrsis_bench.data.formats.index_cache import Kept, collector_paused
from rrsis_bench.data.formats.nwpu_refer.files import (
    LANGUAGES,
    LAYOUT,
    NO_TARGET,
    Defect,
    Index,
    Mention,
    group,
    id_of,
    images_dir,
    instances_path,
    refs_path,
    require_layout,
)
from rrsis_bench.data.formats.refer_files import language_of
from rrsis_bench.data.pixels import polygons
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import read_rgb
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
        require_layout(self.root)
        files = (refs_path(self.root), instances_path(self.root), images_dir(self.root))
        opened = _opened(files, self.root, language, merge)
        _refuse(self.root, opened.defects, split)
        self.category_names = opened.names
        self._columns = opened.splits[split]
        self.notes = self._columns.notes
        if not len(self):
            raise UserError(
                f"{refs_path(self.root)} has no expression of language '{language}' in split '{split}'. {self.notes[0]}"
            )

    def __len__(self) -> int:
        """Number of samples of the split."""
        return len(self._columns.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk and no polygon is drawn."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        columns, index = self._columns, index % len(self)
        shapes, expression = columns.shapes[index], columns.expressions[index]
        image = columns.image_N[index]
        path, size = str(images_dir(self.root) / columns.files[image]), columns.size_of(index)
        return Sample(
            sample_id=columns.ids[index],
            image_id=columns.image_ids[image],
            expression=expression,
            language=language_of(expression),
            category=self._category(index),
            n_targets=len(shapes),
            read_image=partial(read_rgb, path),
            read_mask=partial(_read_mask, shapes, size),
            read_rle=partial(polygons.rasterise, shapes, size),
            image_path=path,
        )

    def _category(self, index: int) -> str | None:
        return (*self.category_names, NO_TARGET, None)[self._columns.category_N[index]]

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; see `fingerprint.py`. Polygons count as they are written."""
        folder, columns = images_dir(self.root), self._columns
        for index, (sample_id, expression) in enumerate(zip(columns.ids, columns.expressions, strict=True)):
            height, width = columns.size_of(index)
            drawn = [f"{height} {width}".encode()]
            for shape in columns.shapes[index]:
                drawn += [shape["counts"]] if isinstance(shape, dict) else [points.tobytes() for points in shape]
            yield FingerprintRow(
                sample_id=sample_id,
                expression=expression,
                category=self._category(index),
                mask=b"".join(len(part).to_bytes(8, "little") + part for part in drawn),
                image=folder / columns.files[columns.image_N[index]],
            )

    def files(self) -> Iterator[Path]:
        """Every file that the split is read from."""
        yield from (refs_path(self.root), instances_path(self.root))
        yield from (images_dir(self.root) / name for name in self._columns.files)


@dataclass(frozen=True, slots=True)
class _Columns:
    """One split: N samples on K pictures.

    Attributes:
        ids: of the samples.
        expressions: of the samples.
        category_N: int16, positions in the category names, -1 for None, -2 for ``no target`` where they lack it.
        image_N: int32, positions in what follows.
        image_ids: of the pictures.
        files: names of the pictures' files.
        size_K2: int32, height and width of the pictures.
        shapes: of the samples.
        notes: for people.
    """

    ids: Texts
    expressions: Texts
    category_N: np.ndarray
    image_N: np.ndarray
    image_ids: Texts
    files: Texts
    size_K2: np.ndarray
    shapes: Shapes
    notes: tuple[str, ...]

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of a sample's picture."""
        height, width = self.size_K2[self.image_N[index]].tolist()
        return height, width


@dataclass(frozen=True, slots=True)
class _Opened:
    """All splits that can be read, and what is wrong with the records."""

    names: tuple[str, ...]
    defects: tuple[Defect, ...]
    splits: dict[str, _Columns]


def _read(root: Path, language: str, merge: bool) -> _Opened:
    """Read all splits at once; those with errors in them are left out."""
    with collector_paused():
        index = Index.read(root)
        errors = tuple(defect for defect in index.defects if defect.finding.severity == ERROR)
        damaged = {defect.split for defect in errors}
        sound = [] if None in damaged else [split for split in SPLITS if split not in damaged]
        splits = {split: _columns(index, *group(index, split, language, merge=merge)) for split in sound}
        return _Opened(tuple(index.names.values()), errors, splits)


_opened = Kept(_read, 2)


def _columns(index: Index, groups: list[list[Mention]], notes: tuple[str, ...]) -> _Columns:
    """Turn groups of mentions into samples."""
    ids, categories, images, shapes = [], [], [], []
    position = {name: place for place, name in enumerate(index.names.values())}
    row_of: dict[object, int] = {}
    for members in groups:
        refs = [ref for ref, _, _ in members]
        ids.append(min(f"{id_of(ref['ref_id'])}-{place}" for ref, place, _ in members))
        targets = {ref["ann_id"]: ref for ref in refs if not index.no_target(ref)}
        names = {index.names[ref["category_id"]] for ref in targets.values()} or {NO_TARGET}
        categories.append(position.get(names.pop(), -2) if len(names) == 1 else -1)
        images.append(row_of.setdefault(refs[0]["image_id"], len(row_of)))
        shapes.append([index.shapes[ann_id] for ann_id in sorted(targets, key=str)])
    records = [index.images[image_id] for image_id in row_of]
    return _Columns(
        ids=Texts(ids),
        expressions=Texts(members[0][2] for members in groups),
        category_N=np.array(categories, dtype=np.int16),
        image_N=np.array(images, dtype=np.int32),
        image_ids=Texts(str(record["id"]) for record in records),
        files=Texts(record["file_name"] for record in records),
        size_K2=np.array([(row["height"], row["width"]) for row in records], dtype=np.int32).reshape(-1, 2),
        shapes=Shapes(shapes),
        notes=notes,
    )


def _refuse(root: Path, errors: Sequence[Defect], split: str) -> None:
    """Raise one UserError that names every error in the records, if any of them touches `split`."""
    if not any(defect.split in (split, None) for defect in errors):
        return
    own = sorted(errors, key=lambda defect: defect.split not in (split, None))
    found = [f"  {d.finding.kind} {d.finding.where}: {d.finding.message}" for d in own[:SHOWN_DEFECTS]]
    if len(own) > SHOWN_DEFECTS:
        kinds = Counter(defect.finding.kind for defect in own[SHOWN_DEFECTS:])
        found.append("  and " + ", ".join(f"{count} more of kind {kind}" for kind, count in sorted(kinds.items())))
    raise UserError(
        f"{len(errors)} records of NWPU-Refer in {root} are damaged:\n" + "\n".join(found) + "\nMend or remove "
        f"them. All of them, and the pictures', are listed by: rrsis-bench data verify nwpu_refer --root {root}"
    )


def _read_mask(shapes: Iterable[polygons.Shape], size: tuple[int, int]) -> np.ndarray:
    """Draw shapes as bool (H, W)."""
    return masks.decode(polygons.rasterise(shapes, size))
