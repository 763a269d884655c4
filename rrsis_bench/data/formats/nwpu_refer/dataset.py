"""NWPU-Refer: 15,003 images of 1024 to 2048 px, 49,745 annotations, 32 categories (Yang et al., the MRSNet paper).

On disk: see `DIRECTORY_TREE`. Facts of the format that a reader has to know:

- A multi-target expression is in several references, one per object, with the same image, split and words. They are
  merged into one sample whose mask is the union. With ``merge=False`` there is one sample per reference, each with a
  part of the mask and the same words. The two readings give other sample counts and other scores.
- ``no target`` is a category of its own. A reference of it, or one whose annotation has no polygon, denotes nothing.
  Its mask is empty, whatever its ``bbox`` says.
- A reference's sentences are English and Chinese. A text with a Chinese character is Chinese, even if it has Latin
  letters. Every other text is English. The paper uses the English ones.
- Masks are polygons, drawn by COCO's rule when a mask is read; see `polygons.py`.
- ``category_id`` here, not RRSIS-D's ``categories_id``. ``bbox`` and ``area`` are not used.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.formats.index import ERROR, SPLITS, WARNING, DatasetIndex, Row
from rrsis_bench.data.formats.masks import PolygonMask
from rrsis_bench.data.formats.refer_files import (
    Record,
    category_names_of,
    check_fields,
    check_ids,
    check_link,
    check_unused,
    collector_paused,
    id_of,
    read_instances_file,
    read_refs_file,
    text_of,
)
from rrsis_bench.data.pixels import polygons
from rrsis_bench.data.text.language import language_of
from rrsis_bench.errors import UserError

CATEGORIES = (
    "car", "ship", "photovolatic", "building", "airplane", "road", "bridge", "basketball court", "container", "train",
    "pool", "storage tank", "tennis court", "ground track field", "football court", "pylon", "digger", "wind turbine",
    "construction tower", "road intersection", "parking", "baseball court", "river", "chimney", "airplaneroad", "ocean",
    "land", "rugby court", "lake", "grass", "badminton court", "dam", "no target",
)  # fmt: skip
"""NWPU-Refer's category names as its new_instances.json spells them: the paper's 32 and ``no target``."""

NO_TARGET = "no target"
"""The category of references that denote nothing in their image."""

DIRECTORY_TREE = """\
<root>/
├── new_refs(unc).p       (or refs(unc).p) one pickled list of references
├── new_instances.json    (or instances.json) images, annotations, categories
└── image/                (or image/image/)
    └── *.jpg
"""

LANGUAGES = ("en", "zh", "all")
"""Values of the option `language`; ``all`` keeps both."""

_SOURCE = "the Baidu link of github.com/CVer-Yang/NWPU-Refer (code NWPU)"
_FIELDS = ("ref_id", "image_id", "ann_id", "category_id", "sentences", "split")
_LATIN = re.compile("[A-Za-z]")

Mention = tuple[Record, int, str]
"""A reference, the position of a sentence in it, and that sentence as an expression."""


def refs_path(root: Path) -> Path:
    """Return the pickle that lists the references: ``new_refs(unc).p``, else ``refs(unc).p``."""
    return _first_present(root / "new_refs(unc).p", root / "refs(unc).p")


def instances_path(root: Path) -> Path:
    """Return the JSON of images, annotations and categories: ``new_instances.json``, else ``instances.json``."""
    return _first_present(root / "new_instances.json", root / "instances.json")


def images_dir(root: Path) -> Path:
    """Return the folder of images: ``image/image/`` if the archive was unpacked into a folder of its own."""
    nested = root / "image" / "image"
    return nested if nested.is_dir() else root / "image"


def _first_present(first: Path, second: Path) -> Path:
    return second if second.is_file() and not first.is_file() else first


def read_index(root: Path, *, language: str = "en", merge: bool = True) -> DatasetIndex:
    """Read both annotation files; the samples are in the order of the references.

    A sample's id is the smallest reference id that it was made of, and the position of its sentence in that reference.
    Its category is None if the merged references differ in theirs.

    Args:
        root: the dataset's folder.
        language: ``"en"``, ``"zh"`` or ``"all"``.
        merge: references with the same image and expression become one sample.

    Raises:
        UserError: another value of an option, the dataset is missing (with where to get it), or an annotation file
            cannot be read at all.
    """
    if language not in LANGUAGES:
        raise UserError(f"data.options.language={language!r} is not one of: {', '.join(LANGUAGES)}.")
    if not isinstance(merge, bool):
        raise UserError(f"data.options.merge={merge!r} must be true or false.")
    files = (refs_path(root), instances_path(root))
    require_present("NWPU-Refer", root, (*files, images_dir(root)), _SOURCE, DIRECTORY_TREE)
    with collector_paused():
        return _Reader(root, files).read(language, merge)


class _Reader:
    """The records of all splits by id, and the index that is made of them.

    Attributes:
        shapes: annotation id -> parsed segmentation of every reference with a target.
        usable: reference ids without an error.
    """

    def __init__(self, root: Path, files: tuple[Path, Path]):
        instances = read_instances_file(files[1])
        self.refs = read_refs_file(files[0])
        self.names = category_names_of(instances)
        self.images = {row.get("id"): row for row in instances["images"]}
        self.annotations = {row.get("id"): row for row in instances["annotations"]}
        self.index = DatasetIndex("nwpu_refer", root, files, tuple(self.names.values()))
        self.folder = str(images_dir(root))
        self.present = set(os.listdir(self.folder))
        self.shapes: dict[Any, polygons.Shape] = {}
        self.usable: set[Any] = set()
        self._missing: set[tuple[str, str]] = set()  # image file and split, each reported once
        check_ids(self.index, self.refs, instances)

    def read(self, language: str, merge: bool) -> DatasetIndex:
        """Check every reference and make the samples."""
        found = set(self.names.values())
        for kind, differing in (("not of", found - set(CATEGORIES)), ("missing from", set(CATEGORIES) - found)):
            if differing:
                message = f"{kind} the published list of {len(CATEGORIES)}: {', '.join(sorted(differing))}"
                self.index.add(WARNING, "categories_differ", "categories", message)
        self.refs = [ref for ref in self.refs if check_fields(self.index, ref, _FIELDS, SPLITS)]
        for ref in self.refs:
            if self._check_expressions(ref) & self._check_image(ref) and self._check_annotation(ref):
                self.usable.add(ref["ref_id"])
        named = (
            str(self.images[ref["image_id"]].get("file_name")) for ref in self.refs if ref["image_id"] in self.images
        )
        check_unused(self.index, self.folder, self.present, named)
        for split in SPLITS:
            groups = self._group(split, language, merge)
            self.index.counts[split] = len(groups)
            rows = [
                self._row(members) for members in groups if all(ref["ref_id"] in self.usable for ref, _, _ in members)
            ]
            self.index.rows[split] = rows
        return self.index

    def _check_expressions(self, ref: Record) -> bool:
        where, split, sentences = id_of(ref["ref_id"]), ref["split"], ref["sentences"]
        texts = [text for _, text in _expressions_of(ref)]
        complete = isinstance(sentences, list) and len(texts) >= max(1, len(sentences))
        if not complete:
            self.index.add(ERROR, "empty_expression", where, "it has no sentence, or one without words", split)
        if len(set(texts)) < len(texts):
            self.index.add(WARNING, "repeated_sentence", where, "one of its sentences occurs twice", split)
        for text in texts:
            if language_of(text) == "zh" and _LATIN.search(text):
                message = f"'{text}' mixes scripts and counts as Chinese"
                self.index.add(WARNING, "mixed_language", where, message, split)
        return complete

    def _check_image(self, ref: Record) -> bool:
        """Check the image's record and file."""
        where, split = id_of(ref["ref_id"]), ref["split"]
        image = self.images.get(ref["image_id"])
        if image is None:
            self.index.add(ERROR, "missing_image_record", where, f"image {ref['image_id']} has no record", split)
            return False
        sides = [image.get("height"), image.get("width")]
        name = image.get("file_name")
        if not all(type(side) is int and side > 0 for side in sides) or not isinstance(name, str):
            message = f"image {ref['image_id']} has no file_name, or no height and width above 0"
            self.index.add(ERROR, "missing_field", where, message, split)
            return False
        if name not in self.present and (name, split) not in self._missing:
            self._missing.add((name, split))
            message = f"{name} is missing in {self.folder}"
            self.index.add(ERROR, "missing_image", where, message, split)
        return name in self.present

    def _check_annotation(self, ref: Record) -> bool:
        """Check the annotation and parse its segmentation, which category ``no target`` does not need."""
        where, split = id_of(ref["ref_id"]), ref["split"]
        nothing = self.names.get(ref["category_id"]) == NO_TARGET
        if nothing and ref["ann_id"] not in self.annotations:
            return True
        annotation = check_link(self.index, ref, self.annotations, self.names, "category_id")
        if annotation is None:
            return False
        segmentation = annotation.get("segmentation")
        if nothing:
            if segmentation:
                message = "its category is 'no target', but its annotation has a polygon, which is not used"
                self.index.add(WARNING, "no_target_with_polygon", where, message, split)
            return True
        if ref["ann_id"] not in self.shapes:
            image = self.images[ref["image_id"]]
            try:
                self.shapes[ref["ann_id"]] = polygons.parse(segmentation, (image["height"], image["width"]))
            except ValueError as error:
                self.index.add(ERROR, "corrupt_polygon", where, f"annotation {ref['ann_id']}: {error}", split)
                return False
            annotation["segmentation"] = None  # frees its numbers, which take more memory than all else
        if self._no_target(ref):
            message = f"annotation {ref['ann_id']} has no polygon: it counts as no target"
            self.index.add(WARNING, "no_polygon", where, message, split)
        return True

    def _no_target(self, ref: Record) -> bool:
        """Return whether a usable reference denotes nothing, by its category or for want of a polygon."""
        return self.names[ref["category_id"]] == NO_TARGET or self.shapes[ref["ann_id"]] == []

    def _group(self, split: str, language: str, merge: bool) -> list[list[Mention]]:
        """Return the mentions of each sample, in the order of the first reference, and note how many there are."""
        refs, left_out, languages = 0, 0, Counter[str]()
        found: dict[tuple[Any, ...], list[Mention]] = {}
        merged: set[tuple[Any, str]] = set()
        for ref in self.refs:
            if ref["split"] != split:
                continue
            refs += 1
            chosen = [(place, text) for place, text in _expressions_of(ref) if language in ("all", language_of(text))]
            languages.update(language_of(text) for _, text in _expressions_of(ref))
            left_out += not chosen
            for place, text in chosen:
                key = (ref["image_id"], text)
                merged.add(key)
                found.setdefault(key if merge else (*key, ref["ref_id"], place), []).append((ref, place, text))
        counts = ", ".join(f"{name} {languages[name]:,}" for name in sorted(languages)) or "none"
        note = (
            f"nwpu_refer {split}: {refs:,} references with expressions {counts}; language={language} gives "
            f"{len(merged):,} samples merged by image and expression, {sum(map(len, found.values())):,} unmerged. "
            f"Read: {len(found):,} ({'merged' if merge else 'unmerged'})."
        )
        if left_out:
            note += f" {left_out:,} references have no expression of this language and are left out."
        self.index.notes[split] = (note,)
        return list(found.values())

    def _row(self, members: list[Mention]) -> Row:
        """Return the sample of mentions with the same image and expression."""
        refs, text = [ref for ref, _, _ in members], members[0][2]
        where, split = id_of(refs[0]["ref_id"]), refs[0]["split"]
        targets = {ref["ann_id"]: ref for ref in refs if not self._no_target(ref)}
        names = {self.names[ref["category_id"]] for ref in targets.values()} or {NO_TARGET}
        if len(names) > 1:
            message = f"'{text}' joins objects of several categories: its sample has none"
            self.index.add(WARNING, "several_categories", where, message, split)
        if targets and any(self._no_target(ref) for ref in refs):
            message = f"'{text}' has references with a target and without one: the former count"
            self.index.add(WARNING, "target_and_none", where, message, split)
        image = self.images[refs[0]["image_id"]]
        shapes = tuple(self.shapes[ann_id] for ann_id in sorted(targets, key=str))
        return Row(
            sample_id=min(f"{id_of(ref['ref_id'])}-{place}" for ref, place, _ in members),
            image_id=str(image["id"]),
            expression=text,
            language=language_of(text),
            category=names.pop() if len(names) == 1 else None,
            n_targets=len(shapes),
            image=f"{self.folder}/{image['file_name']}",
            mask=PolygonMask(shapes, (image["height"], image["width"])),
            where=where,
        )


def _expressions_of(ref: Record) -> list[tuple[int, str]]:
    """Return position in ``sentences`` and text of every sentence with words."""
    sentences = ref["sentences"]
    texts = map(text_of, sentences if isinstance(sentences, list) else [])
    return [(place, text) for place, text in enumerate(texts) if text]
