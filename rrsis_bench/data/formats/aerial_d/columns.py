"""The targets and expressions of a split as arrays: small, quick to store and to load, rows are made on demand.

Aerial-D has 1.1 million training expressions in 27,480 files. Parsing them takes a while, and as many `Row` objects
would take a gigabyte. So a split is held as columns, which are kept in ``<root>/.rrsis_bench/`` until an annotation
file changes its size or modification time. A dataset's folder that cannot be written to is parsed again each time.
"""

# I = images, T = targets, E = expressions

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from rrsis_bench.data.formats.aerial_d.annotations import KINDS, Target
from rrsis_bench.files import replacing

VERSION = 1
"""Raised when the columns or what they are made from change: stored ones are then not used."""

STORE = ".rrsis_bench"
"""Folder below the dataset's, for the stored columns."""

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Texts:
    """Many byte strings in two arrays.

    Attributes:
        blob: uint8, all of them joined.
        end: int64, one past the end of each.
    """

    blob: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        """Return their number."""
        return len(self.end)

    def __getitem__(self, place: int) -> bytes:
        """Return one."""
        start = int(self.end[place - 1]) if place else 0
        return bytes(self.blob[start : int(self.end[place])])


@dataclass(frozen=True, slots=True)
class Columns:
    """A split.

    Attributes:
        image_I: stems of the annotation files, UTF-8.
        file_I: names of the image files.
        image_T: int32, place in `image_I`.
        ident_T: int64, id within the image.
        category_T: int32, place in `categories`.
        members_T: int32, objects denoted; `UNKNOWN` if the file does not say.
        height_T: int32, of the mask.
        width_T: int32, of the mask.
        counts_T: run lengths.
        target_E: int32, place of the target.
        kind_E: int8, place in `KINDS`.
        number_E: int32, how many expressions of its kind the target has before this one.
        text_E: the expressions, UTF-8.
        categories: names in the order of their first use.
        problems: name of an annotation file and what is wrong with it.
        left_out: kind that is not one of `KINDS` -> expressions of it.
    """

    image_I: Texts
    file_I: Texts
    image_T: np.ndarray
    ident_T: np.ndarray
    category_T: np.ndarray
    members_T: np.ndarray
    height_T: np.ndarray
    width_T: np.ndarray
    counts_T: Texts
    target_E: np.ndarray
    kind_E: np.ndarray
    number_E: np.ndarray
    text_E: Texts
    categories: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]
    left_out: dict[str, int]


@dataclass(slots=True)
class _Growing:
    blob: bytearray = field(default_factory=bytearray)
    end: array[int] = field(default_factory=lambda: array("q"))

    def add(self, text: bytes) -> None:
        self.blob += text
        self.end.append(len(self.blob))

    def texts(self) -> Texts:
        return Texts(np.frombuffer(bytes(self.blob), dtype=np.uint8), np.array(self.end, dtype=np.int64))


class Builder:
    """Collects the parsed files of a split into `Columns`."""

    def __init__(self) -> None:
        self._image, self._file, self._counts, self._text = _Growing(), _Growing(), _Growing(), _Growing()
        self._target: dict[str, array[int]] = {
            name: array(code)
            for name, code in (("image", "i"), ("ident", "q"), ("category", "i"), ("members", "i"), ("height", "i"),
                               ("width", "i"))
        }  # fmt: skip
        self._expression: dict[str, array[int]] = {"target": array("i"), "kind": array("b"), "number": array("i")}
        self._categories: dict[str, int] = {}
        self._problems: list[tuple[str, str]] = []
        self._left_out: dict[str, int] = {}

    def add(self, stem: str, file: str, targets: Sequence[Target]) -> None:
        """Add the targets of an annotation file."""
        image = len(self._image.end)
        self._image.add(stem.encode())
        self._file.add(file.encode())
        for target in targets:
            values = {
                "image": image, "ident": target.ident, "members": UNKNOWN if target.members is None else target.members,
                "category": self._categories.setdefault(target.category, len(self._categories)),
                "height": target.size[0], "width": target.size[1],
            }  # fmt: skip
            place = len(self._counts.end)
            for name, value in values.items():
                self._target[name].append(value)
            self._counts.add(target.counts)
            seen = dict.fromkeys(KINDS, 0)
            for kind, text in target.expressions:
                if kind not in seen:
                    self._left_out[kind] = self._left_out.get(kind, 0) + 1
                    continue
                self._expression["target"].append(place)
                self._expression["kind"].append(KINDS.index(kind))
                self._expression["number"].append(seen[kind])
                self._text.add(text.encode())
                seen[kind] += 1

    def problem(self, name: str, message: str) -> None:
        """Note an annotation file that cannot be used."""
        self._problems.append((name, message))

    def columns(self) -> Columns:
        """Return everything that was added."""
        target = {name: np.array(values) for name, values in self._target.items()}
        return Columns(
            self._image.texts(), self._file.texts(), target["image"], target["ident"], target["category"],
            target["members"], target["height"], target["width"], self._counts.texts(),
            np.array(self._expression["target"]), np.array(self._expression["kind"]),
            np.array(self._expression["number"]), self._text.texts(), tuple(self._categories),
            tuple(self._problems), self._left_out,
        )  # fmt: skip


def signature(paths: Sequence[Path]) -> str:
    """Return a sha256 over name, size and modification time of the annotation files."""
    total = hashlib.sha256(f"{VERSION}\n".encode())
    for path in paths:
        stat = os.stat(path)
        total.update(f"{path.name}\0{stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def load(path: Path, signed: str) -> Columns | None:
    """Return stored columns; None if there are none, or they are damaged or of other files."""
    try:
        with np.load(path) as stored:
            head = json.loads(bytes(stored["head"]))
            if head["signature"] != signed:
                return None
            arrays = {name: _restored(stored, name) for name in _ARRAYS}
            problems = tuple((str(name), str(message)) for name, message in head["problems"])
            named: dict[str, Any] = {
                "categories": tuple(head["categories"]),
                "problems": problems,
                "left_out": dict(head["left_out"]),
            }
            return _checked(Columns(**arrays, **named))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def store(path: Path, columns: Columns, signed: str) -> bool:
    """Store columns for `load`; return whether the folder could be written to."""
    head = {
        "signature": signed, "categories": columns.categories, "problems": columns.problems,
        "left_out": columns.left_out,
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {"head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)}
    for name in _ARRAYS:
        value = getattr(columns, name)
        if isinstance(value, Texts):
            arrays |= {f"{name}.blob": value.blob, f"{name}.end": value.end}
        else:
            arrays[name] = value
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as draft, open(draft, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError:
        return False
    return True


_ARRAYS = (
    "image_I", "file_I", "image_T", "ident_T", "category_T", "members_T", "height_T", "width_T", "counts_T", "target_E",
    "kind_E", "number_E", "text_E",
)  # fmt: skip
_TEXTS = ("image_I", "file_I", "counts_T", "text_E")


def _restored(stored: Mapping[str, np.ndarray], name: str) -> Any:
    if name in _TEXTS:
        return Texts(stored[f"{name}.blob"], stored[f"{name}.end"])
    return stored[name]


def _checked(columns: Columns) -> Columns:
    """Return the columns; ValueError if their lengths or places do not fit each other."""
    for name in _TEXTS:
        texts: Texts = getattr(columns, name)
        ends = texts.end
        good = texts.blob.dtype == np.uint8 and ends.dtype == np.int64 and (np.diff(ends, prepend=0) >= 0).all()
        if not good or (int(ends[-1]) if len(ends) else 0) != len(texts.blob):
            raise ValueError(f"{name} is damaged")
    targets, expressions = len(columns.counts_T), len(columns.text_E)
    of_target = (
        columns.image_T,
        columns.ident_T,
        columns.category_T,
        columns.members_T,
        columns.height_T,
        columns.width_T,
    )
    if {len(values) for values in of_target} != {targets} or len(columns.file_I) != len(columns.image_I):
        raise ValueError("the targets' columns differ in length")
    if {len(columns.target_E), len(columns.kind_E), len(columns.number_E)} != {expressions}:
        raise ValueError("the expressions' columns differ in length")
    for values, n in (
        (columns.image_T, len(columns.image_I)), (columns.category_T, len(columns.categories)),
        (columns.target_E, targets), (columns.kind_E, len(KINDS)),
    ):  # fmt: skip
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < n:
            raise ValueError("a place is out of range")
    return columns
