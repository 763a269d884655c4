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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.data import masks
from rrsis_bench.data.fingerprint import FingerprintRow
from rrsis_bench.data.images import read_rgb
from rrsis_bench.data.refer_files import (
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
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample

LAYOUT = """\
<root>/
├── rrsisd/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rrsisd/
        └── JPEGImages/
            └── 00000.jpg ...   one per reference
"""

_VERIFY = "List every defect with: rrsis-bench data verify rrsisd --root "


def open_split(root: Path, split: str) -> RRSISD:
    """Open one split; see `RRSISD`."""
    return RRSISD(root, split)


class RRSISD(ReferringDataset):
    """One split of RRSIS-D, in the order of refs(unc).p; also reads whatever is written in its layout.

    Raises:
        UserError: the dataset is missing (with where to get it), a file is damaged, a reference has no annotation, no
            picture, no or several sentences, an unreadable mask or an unlisted category, or an id occurs twice.
    """

    name = "rrsisd"

    def __init__(self, root: Path | str, split: str):
        self.root = Path(root)
        self.split = split
        require_layout(self.root)
        instances = read_instances(self.root)
        refs = read_refs(self.root)
        names = category_names_of(instances)
        self.category_names = tuple(names.values())
        annotations = {row.get("id"): row for row in instances["annotations"]}

        self._ids: list[str] = []
        self._expressions: list[str] = []
        self._categories: list[str] = []
        self._files: list[str] = []
        self._rles: list[masks.Rle] = []
        for ref in refs:
            if ref.get("split") == split:
                self._append(ref, annotations, names)
        if not self._ids:
            present = ", ".join(sorted({str(ref.get("split")) for ref in refs})) or "none"
            raise UserError(f"{refs_path(self.root)} has no reference in split '{split}' (present: {present}).")
        self._refuse_repeated_ids(refs)
        self._sizes = self._stat_images()
        self._image_ids: list[str] | None = None

    def _append(self, ref: dict[str, Any], annotations: dict[Any, dict[str, Any]], names: dict[int, str]) -> None:
        """Add one reference to the index."""
        what = f"{refs_path(self.root)}: reference {ref.get('ref_id')}"
        hint = f"{_VERIFY}{self.root}"
        missing = {"ref_id", "ann_id", "category_id", "file_name", "sentences"} - set(ref)
        if missing:
            raise UserError(f"{what} has no field {', '.join(sorted(missing))}. {hint}")
        expression = expression_of(ref)
        if expression is None:
            raise UserError(f"{what} does not have exactly one sentence with words in it. {hint}")
        if ref["category_id"] not in names:
            raise UserError(f"{what} has category_id {ref['category_id']}, which instances.json does not list. {hint}")
        if ref["ann_id"] not in annotations:
            raise UserError(f"{what} has no annotation {ref['ann_id']} in {instances_path(self.root)}. {hint}")
        try:
            rle = masks.normalise_rle(annotations[ref["ann_id"]].get("segmentation"))
            masks.check_rle(rle)
        except ValueError as error:
            raise UserError(f"{instances_path(self.root)}: annotation {ref['ann_id']}: {error}. {hint}") from None
        self._ids.append(sample_id_of(int(ref["ref_id"])))
        self._expressions.append(expression)
        self._categories.append(names[ref["category_id"]])
        self._files.append(str(ref["file_name"]))
        self._rles.append(rle)

    def _refuse_repeated_ids(self, refs: list[dict[str, Any]]) -> None:
        """Refuse an id that occurs twice in the whole file: rows of a record are told apart by it."""
        seen: set[Any] = set()
        for ref in refs:
            if ref.get("ref_id") in seen:
                raise UserError(
                    f"{refs_path(self.root)} holds ref_id {ref.get('ref_id')} twice, in one split or in two. "
                    f"{_VERIFY}{self.root}"
                )
            seen.add(ref.get("ref_id"))

    def _stat_images(self) -> np.ndarray:
        """File size of each sample's picture, int64 (n,); refuses missing pictures."""
        folder = images_dir(self.root)
        with os.scandir(folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        missing = [name for name in self._files if name not in sizes]
        if missing:
            shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise UserError(
                f"{len(missing)} of {len(self)} pictures of split '{self.split}' are missing in {folder}: {shown} "
                f"Unpack JPEGImages.zip again. {_VERIFY}{self.root}"
            )
        return np.array([sizes[name] for name in self._files], dtype=np.int64)

    def __len__(self) -> int:
        """Number of references of the split."""
        return len(self._ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk but, once per object, what `image_id` needs."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rle = self._rles[index]
        return Sample(
            sample_id=self._ids[index],
            image_id=self.image_ids[index],
            expression=self._expressions[index],
            language=language_of(self._expressions[index]),
            category=self._categories[index],
            n_targets=int(masks.area(rle) > 0),
            read_image=partial(read_rgb, str(images_dir(self.root) / self._files[index])),
            read_mask=partial(masks.decode, rle),
            read_rle=partial(dict, rle),
        )

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; see `fingerprint.py`."""
        folder = images_dir(self.root)
        for index, rle in enumerate(self._rles):
            height, width = rle["size"]
            yield FingerprintRow(
                sample_id=self._ids[index],
                expression=self._expressions[index],
                category=self._categories[index],
                mask=f"{height} {width} ".encode() + rle["counts"],
                image=folder / self._files[index],
            )

    @property
    def image_ids(self) -> list[str]:
        """One id per sample, equal where the picture files are equal byte for byte.

        Only files that share their size with another one are hashed (once per object). The id is the file name of the
        first sample of the split that shows the picture.
        """
        if self._image_ids is None:
            first: dict[tuple[int, str], str] = {}
            _, inverse, counts = np.unique(self._sizes, return_inverse=True, return_counts=True)
            digests: dict[str, str] = {}
            ids = []
            for name, size, same in zip(self._files, self._sizes.tolist(), counts[inverse].tolist(), strict=True):
                if same > 1 and name not in digests:
                    with open(images_dir(self.root) / name, "rb") as file:
                        digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
                ids.append(first.setdefault((size, digests.get(name, "")), Path(name).stem))
            self._image_ids = ids
        return self._image_ids


def expression_of(ref: dict[str, Any]) -> str | None:
    """The expression of a reference; None unless it has exactly one sentence with words in it."""
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or len(sentences) != 1 or not isinstance(sentences[0], dict):
        return None
    text = sentences[0].get("raw", sentences[0].get("sent"))
    return text.strip() if isinstance(text, str) and text.strip() else None
