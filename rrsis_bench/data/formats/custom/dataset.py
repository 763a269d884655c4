"""Your own data: any dataset in a plain format, read without code (``data=custom data.root=/path/to/it``).

One JSON Lines file (UTF-8) per split, one sample per line; see `DIRECTORY_TREE`::

    {"image": "images/0001.png", "expression": "the red ship", "mask": "masks/0001.png"}
    {"image": "images/0001.png", "expression": "左边的船", "mask": {"size": [800, 800], "counts": "..."}}
    {"image": "images/0002.jpg", "expression": "cars", "mask": {"size": [800, 800], "polygons": [[3, 4, 30, 4, 3, 9]]}}

Fields; all others are refused:

``image``
    path of the image, relative to the root, with slashes. It must not leave the root, not even by a symbolic link.
``expression``
    the referring expression, taken as it is.
``mask``
    the path of a grey PNG or TIFF with the levels 0 and 255 (or 0 and 1); or COCO's run-length encoding, ``counts``
    being the compressed string or the plain list of run lengths (background first, column-major); or ``polygons``, a
    list of ``[x, y, x, y, ...]`` in pixels from the upper left corner, whose union is the target. Polygons are
    rasterised by pycocotools, that is by COCO's rule, and cut off at the border. An empty list is an empty mask.
    ``size`` is [height, width]. The native size is the mask's, whatever the image's is.
``category``
    a name; optional.
``language``
    ``"en"`` or ``"zh"``; by default ``"zh"`` if the expression has a Chinese character, else ``"en"``.
``image_id``
    which lines show the same image; by default the image's path. Within a split one id names one file.
``sample_id``
    by default ``<split>-<line>``, the line counted from 1; unique over all splits.
``n_targets``
    how many objects the expression denotes: 0 for a no-target expression. By default 0 if the run lengths or the
    polygons are empty, else unknown.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats.custom.files import Folders
from rrsis_bench.data.formats.custom.rows import Problem, load, parse
from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.formats.index import ERROR, SPLITS, WARNING, DatasetIndex, Row
from rrsis_bench.data.formats.masks import FileMask
from rrsis_bench.data.text.language import language_of
from rrsis_bench.errors import UserError

DIRECTORY_TREE = """\
<root>/
├── train.jsonl          one sample per line; see rrsis_bench/data/formats/custom/dataset.py
├── val.jsonl
├── test.jsonl
├── images/              any folder: the lines name the files
│   └── 0001.png ...
└── masks/               only if a line's mask is a file
    └── 0001.png ...
"""

_SOURCE = (
    "your own data; a known dataset is converted by rrsis-bench data convert FORMAT --data-root R --to custom --out DIR"
)


def read_index(root: Path) -> DatasetIndex:
    """Read the JSON Lines files; the samples are in the order of the lines.

    Raises:
        UserError: one of the three files is missing or cannot be opened.
    """
    files = tuple(split_path(root, split) for split in SPLITS)
    require_present("A custom dataset", root, files, _SOURCE, DIRECTORY_TREE)
    index = DatasetIndex("custom", root, files, masks_by_pixels=True)
    folders = Folders(root)
    places: dict[str, tuple[str, str]] = {}  # sample id -> split and place of its first line
    categories: set[str] = set()
    for split, path in zip(SPLITS, files, strict=True):
        image_of: dict[str, str] = {}
        try:
            with path.open("rb") as file:
                lines = list(file)
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
        start = lines[0].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] if lines else b""
        if start == b"[":
            raise UserError(
                f"{path} is one JSON array, expected JSON Lines: one object per line, without brackets and commas "
                f"around them. Convert it with: jq -c '.[]' {path}"
            )
        index.counts[split] = len(lines)
        for number, line in enumerate(lines, start=1):
            where = f"{path.name}:{number}"
            found, default_id = load(line), f"{split}-{number}"
            if isinstance(found, Problem):
                index.add(ERROR, found.kind, where, found.message, split)
                continue
            if isinstance(found.get("category"), str):
                categories.add(found["category"])
            _check_id(index, split, where, found.get("sample_id") or default_id, places)
            row, problems = parse(found, default_id, where, root)
            for problem in problems:
                index.add(ERROR, problem.kind, where, problem.message, split)
            if row is not None and _check_files(index, split, row, folders) and not problems:
                _add_row(index, split, row, image_of)
    index.category_names = tuple(sorted(categories))
    return index


def split_path(root: Path, split: str) -> Path:
    """Return the JSON Lines file of a split."""
    return root / f"{split}.jsonl"


def _check_id(
    index: DatasetIndex, split: str, where: str, sample_id: object, places: dict[str, tuple[str, str]]
) -> None:
    """Add a finding for an id that an earlier line has too."""
    if isinstance(sample_id, str):
        other, first = places.setdefault(sample_id, (split, where))
        if first != where:
            kind = "duplicate_id" if other == split else "id_in_two_splits"
            index.add(ERROR, kind, where, f"the sample_id '{sample_id}' is also at {first}")


def _check_files(index: DatasetIndex, split: str, row: Row, folders: Folders) -> bool:
    """Add findings for image and mask files that are missing or outside the root; return whether both can be used."""
    before = len(index.findings)
    paths = {"image": row.image, **({"mask": row.mask.path} if isinstance(row.mask, FileMask) else {})}
    for kind, path in paths.items():
        name = path.removeprefix(f"{index.root}/")
        reason = folders.problem(name)
        if reason:
            defect = f"missing_{kind}" if reason == "is missing" else "path_outside"
            index.add(ERROR, defect, row.where, f"{name} {reason}", split)
    return len(index.findings) == before


def _add_row(index: DatasetIndex, split: str, row: Row, image_of: dict[str, str]) -> None:
    """Add the row, unless its image_id names another file too; warn of a language that is not the expression's."""
    other = image_of.setdefault(str(row.image_id), row.image)
    if other != row.image:
        message = f"the image_id '{row.image_id}' names {row.image}, but in an earlier line {other}"
        index.add(ERROR, "image_id_mismatch", row.where, message, split)
        return
    index.append(split, row)
    if row.language != language_of(row.expression):
        message = f"'language' is {row.language}, but the expression looks like {language_of(row.expression)}"
        index.add(WARNING, "language_differs", row.where, message, split)
