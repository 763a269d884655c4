"""Read COCO annotations with a table of expressions, as a dataset that `convert` writes in the plain format.

The annotations are COCO's instances file (``images``, ``annotations`` with polygons or run lengths, ``categories``).
The table is a CSV file with the columns

``expression``
    the referring expression.
``annotation_id``
    the ids of the annotations that it denotes, separated by spaces; their union is the target. Empty: no target.
``image_id``
    which image it is about; needed without a target only.
``split``
    ``train``, ``val`` or ``test``; without the column, images are assigned by a hash of their file names.
``category``, ``language``, ``sample_id``
    as in the plain format. The category is by default that of the first annotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rrsis_bench.csv_files import CsvRow, CsvTable, read_csv
from rrsis_bench.data.formats.index import ERROR, SPLITS, DatasetIndex, Row
from rrsis_bench.data.formats.masks import RleMask
from rrsis_bench.data.formats.refer_files import category_names_of, read_instances_file
from rrsis_bench.data.pixels import polygons, rle
from rrsis_bench.data.text.language import LANGUAGES, language_of
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_bytes

SHARES = (80, 10, 10)
COLUMNS = ("expression", "annotation_id", "image_id", "split", "category", "language", "sample_id")


def split_of(name: str, shares: Sequence[int] = SHARES) -> str:
    """Return the split of an image by a hash of its name; the same for every order and every later addition.

    Args:
        name: of the image.
        shares: percent of the images in train, val and test.
    """
    place = int(sha256_bytes(name.encode("utf-8"))[:8], 16) % 100
    return SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]


def read_coco(
    annotations: Path, expressions: Path, images: Path | None = None, shares: Sequence[int] = SHARES
) -> DatasetIndex:
    """Read the annotations and the expressions; every defect of a row is a finding with its line.

    Args:
        annotations: COCO's instances file.
        expressions: the CSV file.
        images: folder of the images; None: the folder of the annotations, or ``images`` in it.
        shares: percent of the images in train, val and test, if the table has no column ``split``.

    Raises:
        UserError: a file cannot be read, or a column is unknown or missing.
    """
    instances = read_instances_file(annotations)
    table = read_csv(expressions, ("expression", "annotation_id"))
    for column in table.columns:
        if column not in COLUMNS:
            raise UserError(f"{expressions} has an unknown column '{column}'. The columns are {', '.join(COLUMNS)}.")
    beside = annotations.parent / "images"
    folder = images or (beside if beside.is_dir() else annotations.parent)
    reader = _Reader(instances, table, folder, shares)
    index = DatasetIndex("custom", folder, (annotations, expressions), masks_by_pixels=True)
    for number, row in enumerate(table.rows, start=1):
        try:
            split, sample = reader.sample(row, number)
        except ValueError as error:
            index.add(ERROR, "bad_row", f"{expressions.name}:{row.line}", str(error))
            continue
        index.append(split, sample)
        index.counts[split] += 1
    ids = [sample.sample_id for sample in index.all_rows()]
    for name in sorted({name for name in ids if ids.count(name) > 1} if len(set(ids)) < len(ids) else ()):
        index.add(ERROR, "duplicate_id", expressions.name, f"the sample_id '{name}' occurs more than once")
    index.category_names = tuple(dict.fromkeys(reader.categories.values()))
    return index


class _Reader:
    """Looks up images and annotations by id."""

    def __init__(
        self, instances: dict[str, list[dict[str, Any]]], table: CsvTable, folder: Path, shares: Sequence[int]
    ):
        self.images = {str(row["id"]): row for row in instances["images"]}
        self.annotations = {str(row["id"]): row for row in instances["annotations"]}
        self.categories = {str(key): name for key, name in category_names_of(instances).items()}
        self.table, self.folder, self.shares = table, folder, shares

    def sample(self, row: CsvRow, number: int) -> tuple[str, Row]:
        """Return the split and the sample of a row; ValueError says what is wrong with it."""
        cells = row.cells
        expression, names = cells["expression"], cells["annotation_id"].split()
        if not expression:
            raise ValueError("'expression' has no word in it")
        unknown = [name for name in names if name not in self.annotations]
        if unknown:
            raise ValueError(f"there is no annotation {', '.join(unknown)} in the annotations")
        found = [self.annotations[name] for name in names]
        image_id = self._image_id(cells.get("image_id", ""), found)
        image = self.images[image_id]
        name, size = image.get("file_name"), (image.get("height"), image.get("width"))
        if not isinstance(name, str) or not name:
            raise ValueError(f"image {image_id} has no 'file_name'")
        height, width = rle.parse_size(list(size))
        path = self.folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing. Give the folder of the images with --images")
        split = cells.get("split", "") or split_of(name, self.shares)
        if split not in SPLITS:
            raise ValueError(f"'split' is '{split}', expected {', '.join(SPLITS)}")
        language = cells.get("language", "") or language_of(expression)
        if language not in LANGUAGES:
            raise ValueError(f"'language' is '{language}', expected {' or '.join(LANGUAGES)}")
        shapes = [polygons.parse(one.get("segmentation"), (height, width)) for one in found]
        bare = [name for name, shape in zip(names, shapes, strict=True) if not shape]
        if bare:
            raise ValueError(f"annotation {', '.join(bare)} has no segmentation. A box is no mask")
        mask = polygons.rasterise(shapes, (height, width))
        kind = self.categories.get(str(found[0].get("category_id"))) if found else None
        sample_id = cells.get("sample_id", "") or str(number)
        where = f"{Path(self.table.where).name}:{row.line}"
        return split, Row(
            sample_id, name, expression, language, cells.get("category", "") or kind, len(found), str(path),
            RleMask.of(mask), where,
        )  # fmt: skip

    def _image_id(self, given: str, found: Sequence[dict[str, Any]]) -> str:
        """Return the image that the annotations are on, or the given one if there are none."""
        ids = {str(one.get("image_id")) for one in found} | ({given} if given else set())
        if not ids:
            raise ValueError("'annotation_id' is empty, so that 'image_id' has to name the image")
        if len(ids) > 1:
            raise ValueError(f"its annotations and 'image_id' are on several images: {', '.join(sorted(ids))}")
        (image_id,) = ids
        if image_id not in self.images:
            raise ValueError(f"there is no image {image_id} in the annotations")
        return image_id
