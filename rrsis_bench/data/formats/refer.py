"""Read RRSIS-D and the datasets in its layout: one pickle of references, one JSON of annotations, one folder of images.

Facts of the layout that a reader has to know:

- The category of an annotation is under ``categories_id`` (sic), that of a reference under ``category_id``. The latter
  is used.
- ``segmentation`` is a list with one compressed run-length mask. Plain run lengths and polygons are read too.
- ``bbox`` and ``area`` are not used. In RRSIS-D they are x1, y1, x2, y2 and inflated more than hundredfold.
- The native size is the mask's. A few images have another (800 x 801 and 800 x 787 beside 800 x 800 masks).
- A sentence's ``raw`` text is the expression, as in the REFER loaders of LAVT and FIANet.
- An image may be stored once per reference, so samples of one scene are found by comparing the image files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrsis_bench.data.formats.directory_tree import Names, require_present
from rrsis_bench.data.formats.index import DIFFERS, ERROR, SPLITS, WARNING, DatasetIndex, Row
from rrsis_bench.data.formats.masks import PolygonMask, RleMask, StoredMask
from rrsis_bench.data.formats.refer_files import (
    Record,
    category_names_of,
    check_fields,
    check_ids,
    check_link,
    check_unused,
    id_of,
    read_instances_file,
    read_refs_file,
    text_of,
)
from rrsis_bench.data.pixels import polygons, rle
from rrsis_bench.data.text.language import language_of

_FIELDS = ("ref_id", "ann_id", "category_id", "file_name", "sentences", "split")


@dataclass(frozen=True, slots=True)
class ReferFormat:
    """A dataset in RRSIS-D's layout.

    Attributes:
        name: of the format.
        title: of the dataset.
        folder: name of the folder of the annotation files, and of that of the images below ``images/``.
        source: where to get it.
        tree: the expected files, drawn with ``<root>``.
        inferred: True if no copy was at hand when this was written. Other names of the folders are then accepted,
            every sentence of a reference is a sample, and what differs from the description is a finding.
        total: references of a complete copy, if only their sum is known.
        categories: number of categories; None if unknown.
        side: height and width of every mask in pixels; None if they differ or are unknown.
    """

    name: str
    title: str
    folder: str
    source: str
    tree: str
    inferred: bool = False
    total: int | None = None
    categories: int | None = None
    side: int | None = None

    def refs_path(self, root: Path) -> Path:
        """Return the pickle that lists the references."""
        folder = self.annotations_dir(root)
        path = folder / "refs(unc).p"
        others = sorted(folder.glob("refs(*).p")) if self.inferred and not path.is_file() else []
        return others[0] if len(others) == 1 else path

    def instances_path(self, root: Path) -> Path:
        """Return the JSON with images, annotations and categories."""
        return self.annotations_dir(root) / "instances.json"

    def annotations_dir(self, root: Path) -> Path:
        """Return the folder of both annotation files."""
        folder = root / self.folder
        if not self.inferred or folder.is_dir() or not root.is_dir():
            return folder
        found = sorted({path.parent for path in [*root.glob("refs(*).p"), *root.glob("*/refs(*).p")]})
        return found[0] if len(found) == 1 else folder

    def images_dir(self, root: Path) -> Path:
        """Return the folder of images."""
        expected = root / "images" / self.folder / "JPEGImages"
        others = [root / "images" / "JPEGImages"]  # unzip JPEGImages.zip -d images
        if self.inferred:
            others += [root / "images" / self.annotations_dir(root).name / "JPEGImages", root / "JPEGImages"]
            others += [self.annotations_dir(root) / "JPEGImages", root / "images" / self.folder, root / "images"]
        return next((folder for folder in (expected, *others) if folder.is_dir()), expected)

    def read_index(self, root: Path) -> DatasetIndex:
        """Read both annotation files; the samples are in the order of the references.

        Raises:
            UserError: the dataset is missing (with where to get it), or an annotation file cannot be read at all.
        """
        files = (self.refs_path(root), self.instances_path(root))
        require_present(self.title, root, (*files, self.images_dir(root)), self.source, self.tree)
        return _Reader(self, root, files).read()


@dataclass(slots=True)
class _Reader:
    """The records of a copy by id, and the index that is made of them."""

    layout: ReferFormat
    root: Path
    paths: tuple[Path, Path]
    annotations: dict[Any, Record] = field(init=False)
    images: dict[Any, Record] = field(init=False)
    names: dict[Any, str] = field(init=False)
    files: Names = field(init=False)
    index: DatasetIndex = field(init=False)

    def read(self) -> DatasetIndex:
        """Check every reference and make the samples."""
        instances, refs = read_instances_file(self.paths[1]), read_refs_file(self.paths[0])
        self.names = category_names_of(instances)
        self.index = index = DatasetIndex(self.layout.name, self.root, self.paths, tuple(self.names.values()))
        check_ids(index, refs, instances)
        self.annotations = {row["id"]: row for row in instances["annotations"]}
        self.images = {row["id"]: row for row in instances["images"]}
        self.files = Names(self.layout.images_dir(self.root))
        several = 0
        for ref in refs:
            if check_fields(index, ref, _FIELDS, SPLITS):
                expressions = self._expressions(ref)
                several += len(expressions) > 1
                index.counts[ref["split"]] += max(1, len(expressions))
                index.append(ref["split"], *self._rows(ref, expressions))
        named = (self.files.find(str(ref.get("file_name"))) or "" for ref in refs)
        check_unused(index, str(self.files.folder), self.files.present, named)
        if self.layout.inferred:
            self._compare(len(refs), several)
        return index

    def _rows(self, ref: Record, expressions: list[str]) -> list[Row]:
        """Return the samples of a reference, or none after adding why it is not usable."""
        where, split = id_of(ref["ref_id"]), ref["split"]
        name = self.files.find(str(ref["file_name"]))
        if name is None:
            self.index.add(ERROR, "missing_image", where, self.files.missing(str(ref["file_name"])), split)
        annotation = check_link(self.index, ref, self.annotations, self.names, "categories_id")
        if annotation is None:
            return []
        try:
            mask = _mask(annotation.get("segmentation"), self.images.get(annotation.get("image_id"), {}))
        except ValueError as error:
            self.index.add(ERROR, "unreadable_mask", where, f"annotation {ref['ann_id']}: {error}", split)
            return []
        n_targets = int(rle.area(mask.read_rle()) > 0)
        if not n_targets:
            known = "" if self.layout.inferred else " (known for a few public samples)"
            self.index.add(WARNING, "empty_mask", where, f"the mask has no pixel{known}", split)
        if name is None:
            return []
        image, category = f"{self.files.folder}/{name}", self.names[ref["category_id"]]
        ids = [where] if len(expressions) == 1 else [f"{where}-{place}" for place in range(len(expressions))]
        return [
            Row(sample_id, None, expression, language_of(expression), category, n_targets, image, mask, where)
            for sample_id, expression in zip(ids, expressions, strict=True)
        ]

    def _expressions(self, ref: Record) -> list[str]:
        """Return the sentences of a reference; none after adding why there is none to use."""
        where, split, sentences = id_of(ref["ref_id"]), ref["split"], ref["sentences"]
        texts = [text_of(sentence) for sentence in sentences] if isinstance(sentences, list) else []
        if len(texts) > 1 and not self.layout.inferred:
            self.index.add(ERROR, "several_sentences", where, f"{len(texts)} sentences, expected one", split)
            return []
        if not any(texts):
            self.index.add(ERROR, "empty_expression", where, "it has no sentence with words", split)
        for text in texts:
            if not text.isascii():
                self.index.add(WARNING, "non_ascii_expression", where, f"'{text}' has characters outside ASCII", split)
        return [text for text in texts if text]

    def _compare(self, references: int, several: int) -> None:
        """Add a finding for everything in which the copy is not as its authors describe it."""
        layout, index = self.layout, self.index
        expected = (
            layout.folder + "/", "refs(unc).p", f"images/{layout.folder}/JPEGImages/",
        )  # fmt: skip
        found = (
            self._shown(self.paths[0].parent), self.paths[0].name, self._shown(layout.images_dir(self.root)),
        )  # fmt: skip
        for name, other in zip(expected, found, strict=True):
            if name != other:
                self._differs("files", f"'{other}' stands where '{name}' was expected")
        if several:
            self._differs("sentences", f"{several:,} references have several sentences. Each sentence is a sample")
        if layout.total is not None and references != layout.total:
            self._differs("references", f"{references:,}, the authors count {layout.total:,}")
        if layout.categories is not None and len(self.names) != layout.categories:
            listed = ", ".join(index.category_names)
            self._differs("categories", f"{len(self.names)} ({listed}), the authors count {layout.categories}")
        sizes = Counter(_size(row.mask) for row in index.all_rows())
        others = {size: n for size, n in sizes.items() if layout.side and size != (layout.side, layout.side)}
        if others:
            (height, width), n = max(others.items(), key=lambda item: item[1])
            self._differs(
                "sizes", f"{sum(others.values()):,} masks are not {layout.side} x {layout.side}, most of them ({n:,}) "
                f"{height} x {width} (height x width)",
            )  # fmt: skip

    def _shown(self, path: Path) -> str:
        return f"{path.relative_to(self.root)}/"

    def _differs(self, where: str, message: str) -> None:
        self.index.add(WARNING, DIFFERS, where, message)


def _size(mask: StoredMask) -> tuple[int, int]:
    height, width = mask.read_rle()["size"]
    return height, width


def _mask(segmentation: object, image: Record) -> StoredMask:
    """Return run lengths or polygons as a mask; ValueError with the reason if they are neither."""
    if not (isinstance(segmentation, list) and segmentation and not isinstance(segmentation[0], dict)):
        return RleMask.of(rle.parse(segmentation))
    try:
        size = rle.parse_size([image.get("height"), image.get("width")])
    except ValueError as error:
        raise ValueError(f"polygons need the size of their image, whose record {error}") from None
    return PolygonMask((polygons.parse(segmentation, size),), size)
