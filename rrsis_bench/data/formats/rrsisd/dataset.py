"""RRSIS-D: 17,402 references on aerial images, 20 categories (Liu et al., CVPR 2024).

On disk: see `DIRECTORY_TREE`. Facts of the format that a reader has to know:

- The category of an annotation is under ``categories_id`` (sic), that of a reference under ``category_id``. The latter
  is used.
- ``segmentation`` is a list with one compressed run-length mask. Plain run lengths and polygons are read too.
- ``bbox`` is x1, y1, x2, y2 and ``area`` is inflated more than hundredfold. Neither is used here.
- The native size is the mask's. A few images have another (800 x 801 and 800 x 787 beside 800 x 800 masks).
- Each reference has one sentence. Its ``raw`` text is the expression, as in the REFER loaders of LAVT and FIANet.
- An image is stored once per reference, so samples of one scene are found by comparing the image files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rrsis_bench.data.formats.directory_tree import Names, require_present
from rrsis_bench.data.formats.index import ERROR, SPLITS, WARNING, DatasetIndex, Row
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
from rrsis_bench.data.text.categories import RRSISD
from rrsis_bench.data.text.language import language_of

CATEGORIES = tuple(RRSISD)
"""RRSIS-D's twenty category names, in the order of their ids."""

DIRECTORY_TREE = """\
<root>/
├── rrsisd/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rrsisd/
        └── JPEGImages/
            └── 00000.jpg ...   one per reference
"""

_SOURCE = (
    "Hugging Face dataset 'VoyageWang/rrsis-d' (JPEGImages.zip, instances.json, refs(unc).p), or the links in the "
    "README of github.com/Lsan2401/RMSIN"
)
_FIELDS = ("ref_id", "ann_id", "category_id", "file_name", "sentences", "split")


def refs_path(root: Path) -> Path:
    """Return the pickle that lists the references."""
    return root / "rrsisd" / "refs(unc).p"


def instances_path(root: Path) -> Path:
    """Return the JSON with images, annotations and categories."""
    return root / "rrsisd" / "instances.json"


def images_dir(root: Path) -> Path:
    """Return the folder of images."""
    folder = root / "images" / "rrsisd" / "JPEGImages"
    other = root / "images" / "JPEGImages"  # unzip JPEGImages.zip -d images
    return other if other.is_dir() and not folder.is_dir() else folder


def read_index(root: Path) -> DatasetIndex:
    """Read both annotation files; the samples are in the order of refs(unc).p.

    Raises:
        UserError: the dataset is missing (with where to get it), or an annotation file cannot be read at all.
    """
    files = (refs_path(root), instances_path(root))
    require_present("RRSIS-D", root, (*files, images_dir(root)), _SOURCE, DIRECTORY_TREE)
    instances, refs = read_instances_file(files[1]), read_refs_file(files[0])
    names = category_names_of(instances)
    index = DatasetIndex("rrsisd", root, files, tuple(names.values()))
    check_ids(index, refs, instances)
    annotations = {row["id"]: row for row in instances["annotations"]}
    images = {row["id"]: row for row in instances["images"]}
    files_named = Names(images_dir(root))
    for ref in refs:
        if check_fields(index, ref, _FIELDS, SPLITS):
            index.counts[ref["split"]] += 1
            row = _row(index, ref, annotations, images, names, files_named)
            if row is not None:
                index.rows[ref["split"]].append(row)
    named = (files_named.find(str(ref.get("file_name"))) or "" for ref in refs)
    check_unused(index, str(files_named.folder), files_named.present, named)
    return index


def _row(
    index: DatasetIndex,
    ref: Record,
    annotations: dict[Any, Record],
    images: dict[Any, Record],
    names: dict[Any, str],
    files: Names,
) -> Row | None:
    """Return a reference as a sample, or None after adding why it is not usable."""
    where, split = id_of(ref["ref_id"]), ref["split"]
    expression = _expression(index, ref)
    name = files.find(str(ref["file_name"]))
    if name is None:
        index.add(ERROR, "missing_image", where, files.missing(str(ref["file_name"])), split)
    annotation = check_link(index, ref, annotations, names, "categories_id")
    if annotation is None:
        return None
    try:
        mask = _mask(annotation.get("segmentation"), images.get(annotation.get("image_id"), {}))
    except ValueError as error:
        index.add(ERROR, "unreadable_mask", where, f"annotation {ref['ann_id']}: {error}", split)
        return None
    n_targets = int(rle.area(mask.read_rle()) > 0)
    if not n_targets:
        index.add(WARNING, "empty_mask", where, "the mask has no pixel (known for a few public samples)", split)
    if not expression or name is None:
        return None
    image, category = f"{files.folder}/{name}", names[ref["category_id"]]
    return Row(where, None, expression, language_of(expression), category, n_targets, image, mask, where)


def _mask(segmentation: object, image: Record) -> StoredMask:
    """Return run lengths or polygons as a mask; ValueError with the reason if they are neither."""
    if not (isinstance(segmentation, list) and segmentation and not isinstance(segmentation[0], dict)):
        return RleMask.of(rle.parse(segmentation))
    try:
        size = rle.parse_size([image.get("height"), image.get("width")])
    except ValueError as error:
        raise ValueError(f"polygons need the size of their image, whose record {error}") from None
    return PolygonMask((polygons.parse(segmentation, size),), size)


def _expression(index: DatasetIndex, ref: Record) -> str:
    """Return the one sentence of a reference; empty after adding why there is none."""
    where, split, sentences = id_of(ref["ref_id"]), ref["split"], ref["sentences"]
    texts = [text_of(sentence) for sentence in sentences] if isinstance(sentences, list) else []
    if len(texts) > 1:
        index.add(ERROR, "several_sentences", where, f"{len(texts)} sentences, expected one", split)
    elif not any(texts):
        index.add(ERROR, "empty_expression", where, "it has no sentence with words", split)
    elif not texts[0].isascii():
        index.add(WARNING, "non_ascii_expression", where, f"'{texts[0]}' has characters outside ASCII", split)
    return texts[0] if len(texts) == 1 else ""
