"""RRSIS-D: 17,402 references on aerial pictures, 20 categories (Liu et al., CVPR 2024).

On disk (the REFER layout)::

    <root>/rrsisd/refs(unc).p           one pickled list of references
    <root>/rrsisd/instances.json        images, annotations, categories
    <root>/images/rrsisd/JPEGImages/    one jpg per reference

Facts of the format that a reader has to know:

- An annotation's category stands under ``categories_id`` (sic), a reference's under ``category_id``: the one used.
- ``segmentation`` is a list with one compressed run-length mask. ``bbox`` is x1, y1, x2, y2 and ``area`` is inflated
  more than hundredfold: neither is used here.
- The native size is the mask's; a few pictures have another (800 x 801 and 800 x 787 beside 800 x 800 masks).
- Each reference has one sentence. Its ``raw`` text is the expression, as for the REFER loaders of LAVT and FIANet.
- A picture is stored once per reference, so samples of one scene are found by the bytes of their files.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.data.checks.fingerprint import FingerprintRow
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.columns import Rles, Texts, areas
from rrsis_bench.data.formats.index_cache import Kept, collector_paused
from rrsis_bench.data.formats.refer_files import (
    LAYOUT,
    annotation_category,
    category_names_of,
    images_dir,
    instances_path,
    language_of,
    read_instances,
    read_refs,
    refs_path,
    require_layout,
    sample_id_of,
)
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample

__all__ = ["LAYOUT", "RRSISD", "open_split"]

_VERIFY = "List every defect with: rrsis-bench data verify rrsisd --root "


def open_split(root: Path, split: str) -> RRSISD:
    """Open one split; see `RRSISD`."""
    return RRSISD(root, split)


class RRSISD(ReferringDataset):
    """One split of RRSIS-D, in the order of refs(unc).p; also reads whatever is written in its layout.

    Raises:
        UserError: the dataset is missing (with where to get it), a file is damaged, a reference of the split has no
            annotation or one of another category or picture, no picture file, no or several sentences, an unreadable
            mask or an unlisted category; or, anywhere in the files, an id occurs twice or a split is none of three.
    """

    name = "rrsisd"

    def __init__(self, root: Path | str, split: str):
        self.root = Path(root)
        self.split = split
        require_layout(self.root)
        opened = _opened((refs_path(self.root), instances_path(self.root)), self.root)
        self.category_names = opened.names
        if opened.damage:
            raise UserError(f"{opened.damage} {_VERIFY}{self.root}")
        if split not in opened.splits:
            present = ", ".join(opened.present) or "none"
            raise UserError(f"{refs_path(self.root)} has no reference in split '{split}' (present: {present}).")
        found = opened.splits[split]
        if isinstance(found, str):
            raise UserError(f"{found} {_VERIFY}{self.root}")
        self._columns = found
        self._refuse_missing_files()
        self._first_N: np.ndarray | None = None

    def _refuse_missing_files(self) -> None:
        folder = images_dir(self.root)
        present = set(os.listdir(folder))
        missing = [name for name in self._columns.files if name not in present]
        if missing:
            shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise UserError(
                f"{len(missing)} of {len(self)} pictures of split '{self.split}' are missing in {folder}: {shown} "
                f"Unpack JPEGImages.zip again. {_VERIFY}{self.root}"
            )

    def __len__(self) -> int:
        """Number of references of the split."""
        return len(self._columns.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk but, once per object, what its `image_id` needs."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        columns, expression = self._columns, self._columns.expressions[index]
        rle, path = columns.rles[index], str(images_dir(self.root) / columns.files[index])
        return Sample(
            sample_id=columns.ids[index],
            image_id=self._image_id(index),
            expression=expression,
            language=language_of(expression),
            category=self.category_names[columns.category_N[index]],
            n_targets=int(columns.rles.area_N[index] > 0),
            read_image=partial(read_rgb, path),
            read_mask=partial(masks.decode, rle),
            read_rle=partial(dict, rle),
            image_path=path,
        )

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; see `fingerprint.py`."""
        folder, columns = images_dir(self.root), self._columns
        texts = zip(columns.ids, columns.expressions, columns.files, strict=True)
        for index, (sample_id, expression, file) in enumerate(texts):
            rle = columns.rles[index]
            height, width = rle["size"]
            yield FingerprintRow(
                sample_id=sample_id,
                expression=expression,
                category=self.category_names[columns.category_N[index]],
                mask=f"{height} {width} ".encode() + rle["counts"],
                image=folder / file,
            )

    def files(self) -> Iterator[Path]:
        """Every file that the split is read from."""
        yield from (refs_path(self.root), instances_path(self.root))
        yield from (images_dir(self.root) / name for name in self._columns.files)

    def _image_id(self, index: int) -> str:
        """Equal where the picture files are equal byte for byte: the file name of the split's first such sample."""
        if self._first_N is None:
            self._first_N = self._find_equal_files()
        return Path(self._columns.files[int(self._first_N[index])]).stem

    @property
    def image_ids(self) -> list[str]:
        """The samples' image_id, in their order."""
        return [self._image_id(index) for index in range(len(self))]

    def _find_equal_files(self) -> np.ndarray:
        """For each sample the first of the split with an equal picture file, int64 (N,).

        Only files that share their size with another one are hashed.
        """
        folder = images_dir(self.root)
        with os.scandir(folder) as entries:
            size_of = {entry.name: entry.stat().st_size for entry in entries}
        names = list(self._columns.files)
        sizes = [size_of.get(name, 0) for name in names]  # one deleted meanwhile is named when it is read
        counts = Counter(sizes)
        digests: dict[str, str] = {}
        first: dict[tuple[int, str], int] = {}
        found = []
        for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
            if counts[size] > 1 and name not in digests:
                digests[name] = _sha256(folder / name)
            found.append(first.setdefault((size, digests.get(name, "")), index))
        return np.array(found, dtype=np.int64)


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None


@dataclass(frozen=True, slots=True)
class _Columns:
    """One split of N samples; `category_N` (int16) is a position in the category names."""

    ids: Texts
    expressions: Texts
    files: Texts
    category_N: np.ndarray
    rles: Rles


@dataclass(frozen=True, slots=True)
class _Opened:
    """Both annotation files.

    Attributes:
        names: the categories.
        present: values of the references' field ``split``.
        splits: split -> its samples, or why it is refused.
        damage: what is wrong with the files as a whole; empty where nothing is.
    """

    names: tuple[str, ...]
    present: tuple[str, ...]
    splits: dict[str, _Columns | str]
    damage: str


def _read(root: Path) -> _Opened:
    """Read all splits at once."""
    with collector_paused():
        instances = read_instances(root)
        refs = read_refs(root)
        names = category_names_of(instances)
        annotations = {row.get("id"): row for row in instances["annotations"]}
        splits: dict[str, _Columns | str] = {}
        present = tuple(sorted({str(ref.get("split")) for ref in refs}))
        for split in SPLITS:
            chosen = [ref for ref in refs if ref.get("split") == split]
            if chosen:
                splits[split] = _columns(root, chosen, annotations, names)
        return _Opened(tuple(names.values()), present, splits, _damage(root, refs, instances["annotations"]))


_opened = Kept(_read, 2)


def _damage(root: Path, refs: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> str:
    """Repeated ids, by which rows of a record or masks could not be told apart, and splits that no run reads."""
    for path, rows, name in ((refs_path(root), refs, "ref_id"), (instances_path(root), annotations, "id")):
        seen: set[Any] = set()
        for row in rows:
            if row.get(name) in seen:
                return f"{path} holds {name} {row.get(name)} twice{', in one split or in two' if rows is refs else ''}."
            seen.add(row.get(name))
    for ref in refs:
        if ref.get("split") not in SPLITS:
            return f"{_name(root, ref)} has the split {ref.get('split')!r}, none of {', '.join(SPLITS)}."
    return ""


def _columns(
    root: Path, refs: list[dict[str, Any]], annotations: dict[Any, dict[str, Any]], names: dict[int, str]
) -> _Columns | str:
    """A split's samples, or what is wrong with the first reference that is not sound."""
    position = {category_id: place for place, category_id in enumerate(names)}
    found: list[tuple[str, str, str, int]] = []
    rles: list[masks.Rle] = []
    for ref in refs:
        checked = _check(root, ref, annotations, names)
        if isinstance(checked, str):
            return checked
        expression, rle = checked
        found.append(
            (sample_id_of(int(ref["ref_id"])), expression, str(ref["file_name"]), position[ref["category_id"]])
        )
        rles.append(rle)
    area_N = areas(rles)
    for index in np.flatnonzero(area_N < 0).tolist():
        try:
            masks.check_rle(rles[index])
        except ValueError as error:
            return _bad_mask(root, refs[index], error)
    ids, expressions, files, categories = zip(*found, strict=True)
    return _Columns(
        Texts(ids), Texts(expressions), Texts(files), np.array(categories, dtype=np.int16), Rles.of(rles, area_N)
    )


def _check(
    root: Path, ref: dict[str, Any], annotations: dict[Any, dict[str, Any]], names: dict[int, str]
) -> tuple[str, masks.Rle] | str:
    """Expression and mask of a reference, its run lengths unchecked; or what is wrong with it."""
    missing = _FIELDS - ref.keys()
    if missing:
        return f"{_name(root, ref)} has no field {', '.join(sorted(missing))}."
    expression = expression_of(ref)
    if expression is None:
        return f"{_name(root, ref)} does not have exactly one sentence with words in it."
    if ref["category_id"] not in names:
        return f"{_name(root, ref)} has category_id {ref['category_id']}, which instances.json does not list."
    annotation = annotations.get(ref["ann_id"])
    if annotation is None:
        return f"{_name(root, ref)} has no annotation {ref['ann_id']} in {instances_path(root)}."
    category = annotation_category(annotation)
    if category != ref["category_id"]:
        return f"{_name(root, ref)} has category_id {ref['category_id']}, but its annotation has {category}."
    if "image_id" in ref and annotation.get("image_id") != ref["image_id"]:
        return (
            f"{_name(root, ref)} has image_id {ref['image_id']}, but its annotation has {annotation.get('image_id')}."
        )
    try:
        return expression, masks.normalise_rle(annotation.get("segmentation"))
    except ValueError as error:
        return _bad_mask(root, ref, error)


_FIELDS = {"ref_id", "ann_id", "category_id", "file_name", "sentences"}


def _bad_mask(root: Path, ref: dict[str, Any], error: ValueError) -> str:
    return f"{instances_path(root)}: annotation {ref['ann_id']} of reference {ref['ref_id']}: {error}."


def _name(root: Path, ref: dict[str, Any]) -> str:
    return f"{refs_path(root)}: reference {ref.get('ref_id')}"


def expression_of(ref: dict[str, Any]) -> str | None:
    """The expression of a reference; None unless it has exactly one sentence with words in it."""
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or len(sentences) != 1 or not isinstance(sentences[0], dict):
        return None
    text = sentences[0].get("raw", sentences[0].get("sent"))
    return text.strip() if isinstance(text, str) and text.strip() else None
