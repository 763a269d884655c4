"""NWPU-Refer's files on disk: paths, reading, and what is wrong with their records.

`nwpu_refer.py` refuses a split with defects, `verify_nwpu_refer.py` lists them beside those of the pictures.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrsis_bench.data.checks.verify import ERROR, WARNING, Finding
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.formats.refer_files import (
    category_names_of,
    language_of,
    read_instances_file,
    read_refs_file,
    sample_id_of,
)
from rrsis_bench.data.pixels import polygons
from rrsis_bench.errors import UserError

CATEGORIES = (
    "car", "ship", "photovolatic", "building", "airplane", "road", "bridge", "basketball court", "container", "train",
    "pool", "storage tank", "tennis court", "ground track field", "football court", "pylon", "digger", "wind turbine",
    "construction tower", "road intersection", "parking", "baseball court", "river", "chimney", "airplaneroad", "ocean",
    "land", "rugby court", "lake", "grass", "badminton court", "dam", "no target",
)  # fmt: skip
"""NWPU-Refer's category names as its new_instances.json spells them: the paper's 32 and ``no target``."""

NO_TARGET = "no target"
"""The category of references that denote nothing in their picture."""

LAYOUT = """\
<root>/
├── new_refs(unc).p       (or refs(unc).p)
├── new_instances.json    (or instances.json)
└── image/                (or image/image/)
    └── *.jpg
"""

LANGUAGES = ("en", "zh", "all")
"""Which expressions are read; ``all`` keeps both."""

Mention = tuple[dict[str, Any], int, str]
"""A reference, the place of a sentence in it, and the sentence as an expression."""

_ID_FIELDS = ("ref_id", "image_id", "ann_id", "category_id")
_REF_FIELDS = {*_ID_FIELDS, "sentences", "split"}


_LATIN = re.compile("[A-Za-z]")


def refs_path(root: Path) -> Path:
    """The pickle that lists the references: ``new_refs(unc).p``, or ``refs(unc).p`` where only that is there."""
    return _first_present(root / "new_refs(unc).p", root / "refs(unc).p")


def instances_path(root: Path) -> Path:
    """The JSON of images, annotations and categories: ``new_instances.json``, else ``instances.json``."""
    return _first_present(root / "new_instances.json", root / "instances.json")


def images_dir(root: Path) -> Path:
    """The folder of pictures: ``image/image/`` where the archive was unpacked into a folder of its own, else image/."""
    nested = root / "image" / "image"
    return nested if nested.is_dir() else root / "image"


def _first_present(first: Path, second: Path) -> Path:
    return second if second.is_file() and not first.is_file() else first


def require_layout(root: Path) -> None:
    """UserError where files are missing; see `require_present`."""
    wanted = (refs_path(root), instances_path(root), images_dir(root))
    source = "the Baidu link of github.com/CVer-Yang/NWPU-Refer (code NWPU)"
    require_present("NWPU-Refer", root, wanted, source, LAYOUT)


def expressions_of(ref: dict[str, Any]) -> list[tuple[int, str]]:
    """Place in ``sentences`` and text of every sentence with words in it."""
    sentences = ref.get("sentences")
    found = []
    for place, sentence in enumerate(sentences if isinstance(sentences, list) else []):
        text = sentence.get("raw", sentence.get("sent")) if isinstance(sentence, dict) else None
        if isinstance(text, str) and text.strip():
            found.append((place, text.strip()))
    return found


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding in the records.

    Attributes:
        finding: severity, kind, place and message.
        split: whose samples it falsifies; None where no split can be trusted.
    """

    finding: Finding
    split: str | None


def _require_ids(rows: list[dict[str, Any]], names: tuple[str, ...], path: Path) -> None:
    """Refuse a file with an id that cannot be one, such as a list."""
    for row in rows:
        strange = [name for name in names if name in row and not isinstance(row[name], int | str)]
        if strange:
            raise UserError(f"{path}: a record has {strange[0]} {row[strange[0]]!r}, which is no id.")


@dataclass(slots=True)
class Index:
    """The records of all splits, by id, and what is wrong with them.

    Attributes:
        root: the dataset's folder.
        refs: the references in the order of their file.
        names: category id -> name, in the order of the ids.
        images: image id -> record.
        annotations: annotation id -> record.
        shapes: annotation id -> parsed segmentation of those that a reference with a target names and that are sound.
        files: names of the picture files that are there.
        defects: everything wrong with them.
    """

    root: Path
    refs: list[dict[str, Any]]
    names: dict[int, str]
    images: dict[Any, dict[str, Any]]
    annotations: dict[Any, dict[str, Any]]
    files: set[str]
    shapes: dict[Any, polygons.Shape] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    _missing: set[tuple[str, str]] = field(default_factory=set)  # picture file and split, each noted once
    _parsed: dict[Any, bool] = field(default_factory=dict)  # annotation -> whether its sound shape crosses the border

    @classmethod
    def read(cls, root: Path) -> Index:
        """Read and check all records (no picture is opened).

        Raises:
            UserError: the dataset is missing, or one of its two files cannot be read at all.
        """
        require_layout(root)
        instances = read_instances_file(instances_path(root), "NWPU-Refer's new_instances.json")
        for key in ("images", "annotations"):
            _require_ids(instances[key], ("id",), instances_path(root))
        images = {row.get("id"): row for row in instances["images"]}
        annotations = {row.get("id"): row for row in instances["annotations"]}
        names, files = category_names_of(instances), set(os.listdir(images_dir(root)))
        index = cls(root, [], names, images, annotations, files)
        for kind in ("image", "annotation"):
            index._check_repeated(kind, instances[f"{kind}s"])
        index._parse()
        index.refs = read_refs_file(refs_path(root), "NWPU-Refer's new_refs(unc).p")
        _require_ids(index.refs, _ID_FIELDS, refs_path(root))
        index._check_ids()
        for ref in index.refs:
            index._check_ref(ref)
        return index

    def no_target(self, ref: dict[str, Any]) -> bool:
        """Whether a reference denotes nothing: its category says so, or its annotation has no polygon."""
        return self.names[ref["category_id"]] == NO_TARGET or self.shapes[ref["ann_id"]] == []

    def size_of(self, image_id: Any) -> tuple[int, int]:
        """Height and width of a picture as its record says."""
        return self.images[image_id]["height"], self.images[image_id]["width"]

    def in_split(self, split: str) -> Iterator[dict[str, Any]]:
        """The references of a split, in the order of their file."""
        return (ref for ref in self.refs if ref.get("split") == split)

    def _add(self, severity: str, kind: str, where: str, message: str, split: str | None) -> None:
        self.defects.append(Defect(Finding(severity, kind, where, message), split))

    def _parse(self) -> None:
        """Parse the segmentations of all annotations whose picture's size is known, many at once.

        A sound one is put in the place of its millions of Python numbers, which take more memory than all else; what
        `polygons.parse` refuses stays, for `_check_ref` to say why.
        """
        sizes: dict[Any, tuple[int, int]] = {}
        for ann_id, row in self.annotations.items():
            image = self.images.get(row.get("image_id"), {})
            height, width = image.get("height"), image.get("width")
            if type(height) is type(width) is int and height > 0 and width > 0:
                sizes[ann_id] = height, width
        rows = [self.annotations[ann_id] for ann_id in sizes]
        found = polygons.parse_many([row.get("segmentation") for row in rows], list(sizes.values()))
        for ann_id, row, shape, crosses in zip(sizes, rows, found.shapes, found.crossing, strict=True):
            if shape is not None:
                row["segmentation"] = shape
                self._parsed[ann_id] = crosses

    def _check_repeated(self, kind: str, rows: list[dict[str, Any]]) -> None:
        """Ids of images or annotations that occur twice: no reference can say which one it means."""
        seen: set[Any] = set()
        for row in rows:
            if row.get("id") in seen:
                where = f"{kind} {row.get('id')}"
                self._add(ERROR, f"duplicate_{kind}", where, f"stands twice in {instances_path(self.root).name}", None)
            seen.add(row.get("id"))

    def _check_ids(self) -> None:
        """Reference ids that occur twice, within a split or over splits."""
        splits: dict[Any, list[str]] = defaultdict(list)
        for ref in self.refs:
            splits[ref.get("ref_id")].append(str(ref.get("split")))
        for ref_id, found in splits.items():
            if len(set(found)) > 1:
                where = ", ".join(sorted(set(found)))
                message = f"ref_id {ref_id} stands in the splits {where}"
                self._add(ERROR, "id_in_two_splits", id_of(ref_id), message, None)
            if len(found) > len(set(found)):
                self._add(ERROR, "duplicate_id", id_of(ref_id), f"ref_id {ref_id} stands {len(found)} times", None)

    def _check_ref(self, ref: dict[str, Any]) -> None:
        """Every defect of one reference; keeps its shape where it is sound."""
        where, split = id_of(ref.get("ref_id")), str(ref.get("split"))
        if not ref.keys() >= _REF_FIELDS:
            absent = [name for name in (*_ID_FIELDS, "sentences", "split") if name not in ref]
            self._add(ERROR, "missing_field", where, f"the reference has no {', '.join(absent)}", None)
            return
        if split not in SPLITS:
            message = f"split '{split}' is none of {', '.join(SPLITS)}"
            self._add(ERROR, "unknown_split", where, message, None)
        self._check_expressions(ref, where, split)
        if ref["category_id"] not in self.names:
            message = f"category_id {ref['category_id']} is not in {instances_path(self.root).name}"
            self._add(ERROR, "unknown_category", where, message, split)
        if self._check_image(ref, where, split):
            self._check_annotation(ref, where, split)

    def _check_expressions(self, ref: dict[str, Any], where: str, split: str) -> None:
        found = expressions_of(ref)
        sentences = ref["sentences"]
        if not isinstance(sentences, list) or len(found) < max(1, len(sentences)):
            self._add(ERROR, "empty_expression", where, "a sentence has no words, or there is none", split)
        texts = [text for _, text in found]
        if len(set(texts)) < len(texts):
            self._add(WARNING, "repeated_sentence", where, "one of its sentences stands twice", split)
        for text in texts:
            if language_of(text) == "zh" and _LATIN.search(text):
                self._add(WARNING, "mixed_language", where, f"'{text}' mixes scripts; it counts as Chinese", split)

    def _check_image(self, ref: dict[str, Any], where: str, split: str) -> bool:
        """The picture's record and file; returns whether its size is known."""
        image = self.images.get(ref["image_id"])
        if image is None:
            self._add(ERROR, "missing_image_record", where, f"image {ref['image_id']} has no record", split)
            return False
        sides = [image.get("height"), image.get("width")]
        known = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
        if not known or not isinstance(image.get("file_name"), str):
            message = f"image {ref['image_id']} has no file_name, or height and width of above 0"
            self._add(ERROR, "missing_field", where, message, split)
            return False
        if image["file_name"] not in self.files and (image["file_name"], split) not in self._missing:
            self._missing.add((image["file_name"], split))
            message = f"{image['file_name']} is missing in {images_dir(self.root)}"
            self._add(ERROR, "missing_image", where, message, split)
        return True

    def _check_annotation(self, ref: dict[str, Any], where: str, split: str) -> None:
        """The annotation and its segmentation. One of category ``no target`` is not asked for its shape."""
        nothing = self.names.get(ref["category_id"]) == NO_TARGET
        annotation = self.annotations.get(ref["ann_id"])
        if annotation is None:
            if not nothing:
                message = f"annotation {ref['ann_id']} is not in {instances_path(self.root).name}"
                self._add(ERROR, "missing_annotation", where, message, split)
            return
        if annotation.get("image_id") != ref["image_id"]:
            message = f"image_id {ref['image_id']}, but its annotation has {annotation.get('image_id')}"
            self._add(ERROR, "image_mismatch", where, message, split)
        if annotation.get("category_id") != ref["category_id"]:
            message = f"category_id {ref['category_id']}, but its annotation has {annotation.get('category_id')}"
            self._add(ERROR, "category_mismatch", where, message, split)
        segmentation: Any = annotation.get("segmentation")
        if nothing:
            if segmentation:
                message = "its category is 'no target', but its annotation has a polygon, which is not used"
                self._add(WARNING, "no_target_with_polygon", where, message, split)
            return
        size = self.size_of(ref["image_id"])
        shape: polygons.Shape = segmentation  # as `_parse` left it
        crosses = self._parsed.get(ref["ann_id"])
        if crosses is None:
            try:
                shape = polygons.parse(segmentation, size)
            except ValueError as error:
                self._add(ERROR, "corrupt_polygon", where, f"annotation {ref['ann_id']}: {error}", split)
                return
            crosses = polygons.crosses_border(shape, size)
        self.shapes.setdefault(ref["ann_id"], shape)
        if shape == []:
            message = f"annotation {ref['ann_id']} has no polygon: it counts as no target"
            self._add(WARNING, "no_polygon", where, message, split)
        elif crosses:
            message = f"annotation {ref['ann_id']} reaches out of the picture, where it is cut off"
            self._add(WARNING, "polygon_cut_off", where, message, split)


def id_of(ref_id: Any) -> str:
    """How a reference is named in messages and sample ids."""
    return sample_id_of(ref_id) if isinstance(ref_id, int) else str(ref_id)


def group(index: Index, split: str, language: str, *, merge: bool) -> tuple[list[list[Mention]], tuple[str, ...]]:
    """What becomes one sample: its mentions; and how many there are.

    Args:
        index: the records; those of the split must be sound.
        split: whose references.
        language: ``"en"``, ``"zh"`` or ``"all"``.
        merge: by picture and expression.

    Returns:
        The groups in the order of their first reference, and a line for people with the counts of both readings.
    """
    refs, languages, spoken = 0, Counter[str](), 0
    found: dict[tuple[Any, ...], list[Mention]] = {}
    merged: set[tuple[Any, str]] = set()
    for ref in index.in_split(split):
        refs += 1
        chosen = 0
        for place, text in expressions_of(ref):
            languages[language_of(text)] += 1
            if language in ("all", language_of(text)):
                key = (ref.get("image_id"), text)
                merged.add(key)
                found.setdefault(key if merge else (*key, ref.get("ref_id"), place), []).append((ref, place, text))
                chosen += 1
        spoken += chosen > 0
    single = sum(map(len, found.values()))
    counts = ", ".join(f"{name} {languages[name]:,}" for name in sorted(languages)) or "none"
    line = (
        f"nwpu_refer {split}: {refs:,} references with expressions {counts}; language={language} gives {len(merged):,} "
        f"samples merged by picture and expression, {single:,} unmerged. Read: {len(found):,} "
        f"({'merged' if merge else 'unmerged'})."
    )
    if spoken < refs:
        line += f" {refs - spoken:,} references have no expression of this language and are left out."
    return list(found.values()), (line,)
