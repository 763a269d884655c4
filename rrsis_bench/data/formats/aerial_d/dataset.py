"""Aerial-D: 37,288 patches of 480 px with 1,522,523 expressions of three kinds, 21 categories (Lopes et al., 2025).

Written without a copy, from the dataset's card and paper; see `DIRECTORY_TREE` and, for the annotation files,
`annotations`. Facts of the dataset that a reader has to know:

- There is no test split. The authors score val.
- A target is an object or a group of objects, and has several expressions of each kind: ``original`` by rules,
  ``enhanced`` reworded by a language model, ``unique`` written by it from what it sees. By default the first one of
  each kind is a sample, so that targets count alike.
- Patches whose names begin with D are of DeepGlobe. The authors' loader leaves them out, and so does this one.
- Masks are run lengths of objects and groups. They are checked when they are read, and by `data verify`.
- Ids are unique within a patch only.
"""

# T = targets, E = expressions, N = samples

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from rrsis_bench.data.formats.aerial_d.annotations import KINDS, parse
from rrsis_bench.data.formats.aerial_d.columns import STORE, UNKNOWN, Builder, Columns, load, signature, store
from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.formats.index import DIFFERS, ERROR, WARNING, DatasetIndex, Row
from rrsis_bench.data.formats.masks import LazyRleMask
from rrsis_bench.errors import UserError

DIRECTORY_TREE = """\
<root>/
├── train/
│   ├── annotations/
│   │   └── *.xml            one per patch: objects, groups, their masks and expressions
│   └── images/
│       └── *.png            480 x 480
└── val/
    ├── annotations/
    └── images/
"""

AVAILABLE = ("train", "val")
PUBLISHED = {"train": (27_480, 1_117_794), "val": (9_808, 404_729)}
"""Split -> patches and expressions of a complete copy."""

CATEGORIES, SIDE = 21, 480
"""Number of categories; height and width of every patch."""

EXPRESSIONS = ("one_per_kind", "all")
NO_TEST = "Aerial-D has no test split, and its authors score val. Use splits=[val]."

_SOURCE = "the zip of the Hugging Face dataset 'luisml77/aerial-d'"


def read_index(root: Path, *, expressions: str = "one_per_kind", kinds: Sequence[str] = KINDS) -> DatasetIndex:
    """Read the annotation files of both splits, or what was stored of them; the samples are sorted by file name.

    Args:
        root: the dataset's folder, or the one above it.
        expressions: ``one_per_kind`` takes the first expression of each kind and target, ``all`` every one.
        kinds: kinds of expressions that are taken.

    Raises:
        UserError: another value of an option, or the dataset is missing (with where to get it).
    """
    if expressions not in EXPRESSIONS:
        raise UserError(f"data.options.expressions={expressions!r} is not one of: {', '.join(EXPRESSIONS)}.")
    if isinstance(kinds, str) or not kinds or not set(kinds) <= set(KINDS):
        raise UserError(f"data.options.kinds={kinds!r} must be a list of: {', '.join(KINDS)}.")
    base = _base(root)
    folders = {split: (base / split / "annotations", base / split / "images") for split in AVAILABLE}
    require_present("Aerial-D", root, [path for pair in folders.values() for path in pair], _SOURCE, DIRECTORY_TREE)
    index = DatasetIndex("aerial_d", root, (), absent={"test": NO_TEST})
    found = {split: _read_split(index, base, split, *folders[split]) for split in AVAILABLE}
    index.category_names = tuple(sorted({name for columns in found.values() for name in columns.categories}))
    for split, columns in found.items():
        rows = Rows(columns, str(folders[split][1]), split, _chosen(columns, expressions, kinds))
        index.rows[split], index.counts[split] = rows, len(rows)
        index.notes[split] = (
            f"aerial_d {split}: {len(columns.image_I):,} patches, {len(columns.counts_T):,} targets, "
            f"{len(columns.text_E):,} expressions; expressions={expressions} of {', '.join(kinds)} gives {len(rows):,} "
            "samples.",
        )  # fmt: skip
    _compare(index, found)
    return index


def _base(root: Path) -> Path:
    """Return the folder that holds train/ and val/: `root`, or its only folder that does."""
    if (root / "train").is_dir() or not root.is_dir():
        return root
    found = [path.parent for path in root.glob("*/train") if path.is_dir()]
    return found[0] if len(found) == 1 else root


def _read_split(index: DatasetIndex, base: Path, split: str, annotations: Path, images: Path) -> Columns:
    """Return the columns of a split, stored or parsed, and add a finding for every defect of its files."""
    names = sorted(entry.name for entry in os.scandir(annotations) if entry.name.endswith(".xml"))
    foreign = [name for name in names if name.startswith("D")]
    paths = [annotations / name for name in names if not name.startswith("D")]
    index.files += tuple(paths)
    try:
        signed = signature(paths)
    except OSError as error:
        raise UserError(f"Cannot read {error.filename}: {error.strerror or error}.") from None
    stored = base / STORE / f"{split}.npz"
    columns = load(stored, signed)
    if columns is None:
        columns = _parsed(paths)
        store(stored, columns, signed)
    for name, message in columns.problems:
        index.add(ERROR, "unreadable_annotation", name, message, split)
    present = set(os.listdir(images))
    for place in range(len(columns.image_I)):
        file = columns.file_I[place].decode()
        if file not in present:
            index.add(ERROR, "missing_image", columns.image_I[place].decode(), f"{file} is missing in {images}", split)
    if foreign:
        message = (
            f"{len(foreign):,} patches begin with D (DeepGlobe). The authors' loader leaves them out, and so does this"
        )
        index.add(WARNING, DIFFERS, f"{split} files", message)
    for kind, n in columns.left_out.items():
        message = f"{n:,} expressions are of the kind '{kind}', which is not one of {', '.join(KINDS)}: left out"
        index.add(WARNING, DIFFERS, f"{split} kinds", message)
    return columns


def _parsed(paths: Sequence[Path]) -> Columns:
    builder = Builder()
    for path in paths:
        try:
            name, targets = parse(path.read_bytes())
        except OSError as error:
            builder.problem(path.name, error.strerror or str(error))
            continue
        except ValueError as error:
            builder.problem(path.name, str(error))
            continue
        idents = Counter(target.ident for target in targets)
        twice = [str(ident) for ident, n in idents.items() if n > 1]
        if twice:
            builder.problem(path.name, f"two of its targets have the id {', '.join(twice)}")
            continue
        builder.add(path.stem, name or f"{path.stem}.png", targets)
    return builder.columns()


def _chosen(columns: Columns, expressions: str, kinds: Sequence[str]) -> np.ndarray:
    """Return the places of the expressions that are samples, in the order of the files."""
    wanted_E = np.isin(columns.kind_E, [KINDS.index(kind) for kind in kinds])
    if expressions == "one_per_kind":
        wanted_E &= columns.number_E == 0
    return np.flatnonzero(wanted_E)


def _compare(index: DatasetIndex, found: dict[str, Columns]) -> None:
    """Add a finding for everything in which the copy is not as its authors describe it."""
    for split, columns in found.items():
        for what, n, expected in zip(
            ("patches", "expressions"), (len(columns.image_I), len(columns.text_E)), PUBLISHED[split], strict=True
        ):
            if n != expected:
                index.add(WARNING, DIFFERS, f"{split} {what}", f"{n:,}, the authors count {expected:,}")
        other_T = (columns.height_T != SIDE) | (columns.width_T != SIDE)
        if other_T.any():
            first = int(np.flatnonzero(other_T)[0])
            size = f"{columns.height_T[first]} x {columns.width_T[first]} (height x width)"
            message = f"{int(other_T.sum()):,} masks are not {SIDE} x {SIDE}, the first of them {size}"
            index.add(WARNING, DIFFERS, f"{split} sizes", message)
    if len(index.category_names) != CATEGORIES:
        listed = ", ".join(index.category_names)
        message = f"{len(index.category_names)} ({listed}), the authors count {CATEGORIES}"
        index.add(WARNING, DIFFERS, "categories", message)
    stems = [{columns.image_I[place] for place in range(len(columns.image_I))} for columns in found.values()]
    for stem in sorted(stems[0] & stems[1]):
        index.add(ERROR, "id_in_two_splits", stem.decode(), "the patch is in train and in val")


@dataclass(frozen=True, slots=True)
class Rows(Sequence[Row]):
    """The samples of a split, made from the columns when they are asked for."""

    columns: Columns
    folder: str
    split: str
    expression_N: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.expression_N)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return one sample, or a list of them."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        columns, expression = self.columns, int(self.expression_N[place])
        target = int(columns.target_E[expression])
        image, members = int(columns.image_T[target]), int(columns.members_T[target])
        stem, kind = columns.image_I[image].decode(), KINDS[columns.kind_E[expression]]
        number = int(columns.number_E[expression])
        ident = f"{stem}-{columns.ident_T[target]}"
        return Row(
            sample_id=f"{ident}-{kind}" + (f"-{number}" if number else ""),
            image_id=stem,
            expression=columns.text_E[expression].decode(),
            language="en",
            category=columns.categories[columns.category_T[target]],
            n_targets=None if members == UNKNOWN else members,
            image=f"{self.folder}/{columns.file_I[image].decode()}",
            mask=LazyRleMask(
                int(columns.height_T[target]), int(columns.width_T[target]), columns.counts_T[target], ident
            ),
            where=ident,
        )
