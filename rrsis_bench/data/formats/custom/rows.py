"""One line of an own dataset's JSON Lines file: which fields it may have, and what is wrong with it.

`custom.py` describes the format and raises the first problem; `verify_custom.py` lists them all.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco

from rrsis_bench.data.formats.refer_files import language_of
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import MAX_PIXELS, read_mask

REQUIRED = ("image", "expression", "mask")
OPTIONAL = ("category", "language", "image_id", "sample_id", "n_targets")
FIELDS = (*REQUIRED, *OPTIONAL)
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Problem:
    """A defect of one line.

    Attributes:
        kind: its short name.
        message: what is wrong.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask as the line gives it; exactly one of the first three is set.

    Attributes:
        rle: compressed run-length encoding.
        png: path relative to the root.
        polygons: float64 (P,) arrays of x, y, x, y, ...
        size: height, width where the line gives them; None for a PNG.
    """

    rle: masks.Rle | None = None
    png: str | None = None
    polygons: tuple[np.ndarray, ...] | None = None
    size: tuple[int, int] | None = None

    @property
    def known_empty(self) -> bool:
        """Whether the line alone says that there is no foreground."""
        return (self.rle is not None and masks.area(self.rle) == 0) or self.polygons == ()

    def read_rle(self, root: Path) -> masks.Rle:
        """The mask as run lengths.

        Raises:
            UserError: the PNG cannot be read or is no mask.
        """
        if self.rle is not None:
            return dict(self.rle)
        if self.polygons is not None and self.size is not None:
            return rasterise(self.polygons, self.size)
        return masks.encode(read_mask(root / str(self.png)))

    def read(self, root: Path) -> np.ndarray:
        """The mask as bool (H, W); raises like `read_rle`."""
        return read_mask(root / self.png) if self.png is not None else masks.decode(self.read_rle(root))


@dataclass(frozen=True, slots=True)
class Row:
    """One sample, as its line gives it, with the defaults filled in."""

    sample_id: str
    image_id: str
    image: str
    expression: str
    language: str
    category: str | None
    n_targets: int | None
    mask: Mask


def rasterise(polygons: tuple[np.ndarray, ...], size: tuple[int, int]) -> masks.Rle:
    """The union of polygons as run lengths, by pycocotools (COCO's rule; what lies outside the mask is cut off)."""
    height, width = size
    if not polygons:
        return masks.encode(np.zeros(size, dtype=bool))
    merged = coco.merge(coco.frPyObjects([polygon.tolist() for polygon in polygons], height, width))
    return {"size": [height, width], "counts": bytes(merged["counts"])}


def parse(line: bytes, default_id: str, *, runs: bool = True) -> tuple[Row | None, list[Problem]]:
    """Read one line.

    Args:
        line: its bytes.
        default_id: the sample's id where the line gives none.
        runs: look into compressed run lengths too. Without it they are neither checked nor counted: a mask that they
            leave empty may have `n_targets` None, one that they do not may have 0.

    Returns:
        The row, or None where a field that it cannot do without is unusable; and every problem.
    """
    found = _load(line)
    if isinstance(found, Problem):
        return None, [found]
    checks = _CHECKS if runs else _CHECKS_BUT_RUNS
    problems = [_unknown(name) for name in found if name not in FIELDS]
    problems += [
        Problem("missing_field", f"it has no '{name}' (needed: {', '.join(REQUIRED)})")
        for name in REQUIRED
        if name not in found
    ]
    values: dict[str, Any] = {"category": None, "n_targets": None, "sample_id": default_id}
    for name in FIELDS:
        if name in found and found[name] is not None:
            checked = checks[name](found[name])
            if isinstance(checked, Problem):
                problems.append(replace(checked, message=f"'{name}' {checked.message}"))
            else:
                values[name] = checked
        elif name in found and name in REQUIRED:
            problems.append(Problem("bad_value", f"'{name}' is null"))
    if not set(REQUIRED) <= set(values):
        return None, problems
    values.setdefault("image_id", values["image"])
    values.setdefault("language", language_of(values["expression"]))
    mask: Mask = values["mask"]
    if mask.rle is not None and not runs:
        return Row(**values), problems
    if values["n_targets"] is None and mask.known_empty:
        values["n_targets"] = 0
    elif values["n_targets"] == 0 and mask.png is None and not mask.known_empty:
        problems.append(Problem("target_mismatch", "'n_targets' is 0, but its mask is not empty"))
    return Row(**values), problems


def identity(line: bytes, default_id: str) -> tuple[str, str | None]:
    """Sample id and category of a line, without judgement; what cannot be read gives the default id and None."""
    found = _load(line)
    if isinstance(found, Problem):
        return default_id, None
    sample_id, category = found.get("sample_id"), found.get("category")
    return (
        sample_id if isinstance(sample_id, str) else default_id,
        category if isinstance(category, str) else None,
    )


def _load(line: bytes) -> dict[str, Any] | Problem:
    if not line.strip():
        return Problem("not_json", "it is empty; delete it")
    try:
        found = _DECODER.decode(line.strip().decode(json.detect_encoding(line), "surrogatepass"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a key twice, or nested beyond reason
        return Problem("not_json", f"it is not JSON ({error})")
    if not isinstance(found, dict):
        return Problem("not_json", f"it holds {_kind(found)}, expected an object with {', '.join(REQUIRED)}")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)


def _unknown(name: str) -> Problem:
    near = difflib.get_close_matches(name.lower(), FIELDS, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return Problem("unknown_field", f"it has an unknown field '{name}'. {hint}The fields are {', '.join(FIELDS)}")


def _text(value: object) -> str | Problem:
    if not isinstance(value, str):
        return Problem("bad_value", f"is {_kind(value)}, expected a text")
    return value if value.strip() else Problem("bad_value", "is empty")


def _expression(value: object) -> str | Problem:
    checked = _text(value)
    if checked == Problem("bad_value", "is empty"):
        return Problem("empty_expression", "has no word in it")
    return checked


# Names that begin with no dot, apart by single slashes: nothing that would have to be looked at more closely.
_PLAIN_PATH = re.compile(r"[^/.\\:\0][^/\\:\0]*(?:/[^/.\\:\0][^/\\:\0]*)*")


def _path(value: object) -> str | Problem:
    """A path below the root, written with slashes; symbolic links are followed and checked later."""
    checked = _text(value)
    if isinstance(checked, Problem):
        return checked
    if _PLAIN_PATH.fullmatch(checked):
        return checked
    path = PurePosixPath(checked)
    if path.is_absolute() or ".." in path.parts or "\\" in checked or "\0" in checked or checked[1:2] == ":":
        return Problem(
            "path_outside", f"is '{checked}': a path has to be relative to the dataset's folder and stay in it"
        )
    return str(path)


def _language(value: object) -> str | Problem:
    if not isinstance(value, str) or value not in LANGUAGES:
        return Problem("bad_value", f"is {value!r}, expected {' or '.join(LANGUAGES)}")
    return value


def _count(value: object) -> int | Problem:
    if type(value) is not int or not 0 <= value <= MAX_PIXELS:
        return Problem("bad_value", f"is {value!r}, expected a whole number from 0")
    return value


def _mask(value: object, *, runs: bool = True) -> Mask | Problem:
    if isinstance(value, str):
        path = _path(value)
        return path if isinstance(path, Problem) else Mask(png=path)
    if not isinstance(value, dict):
        return Problem("unreadable_mask", f"is {_kind(value)}, expected the path of a PNG, an RLE or polygons")
    form = next((name for name in ("counts", "polygons") if set(value) == {"size", name}), None)
    if form is None:
        names = ", ".join(f"'{name}'" for name in value) or "nothing"
        return Problem("unreadable_mask", f"has {names}, expected 'size' and 'counts', or 'size' and 'polygons'")
    try:
        size = _size(value["size"])
        if form == "counts":
            return Mask(rle=_rle(value["counts"], size, runs=runs), size=size)
        return Mask(polygons=tuple(_polygon(polygon, size) for polygon in _list(value["polygons"])), size=size)
    except ValueError as error:
        return Problem("unreadable_mask", str(error))


def _size(size: object) -> tuple[int, int]:
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise ValueError(f"has the size {size!r}, expected [height, width] in pixels")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"has {size[0]} x {size[1]} pixels, more than the {MAX_PIXELS:,} that are read")
    return size[0], size[1]


def _rle(counts: object, size: tuple[int, int], *, runs: bool) -> masks.Rle:
    height, width = size
    if isinstance(counts, list):
        if not all(type(run) is int and 0 <= run <= height * width for run in counts):
            raise ValueError("has run lengths that are not whole numbers from 0 to the mask's pixels")
        if sum(counts) != height * width:
            raise ValueError(f"has run lengths that cover {sum(counts)} pixels of a {height} x {width} mask")
        packed = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return {"size": [height, width], "counts": bytes(packed["counts"])}
    rle = masks.normalise_rle({"size": [height, width], "counts": counts})
    if runs:
        masks.check_rle(rle)
    return rle


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"has polygons that are {_kind(value)}, expected a list of [x, y, x, y, ...]")
    return value


def _polygon(value: object, size: tuple[int, int]) -> np.ndarray:
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        raise ValueError("has a polygon that is not a list of numbers [x, y, x, y, ...]")
    if len(value) < 6 or len(value) % 2:
        raise ValueError(f"has a polygon of {len(value)} numbers, expected x and y of three points or more")
    # Far outside, the rasteriser would walk (and store) an edge of any length.
    inside = all(
        -side <= min(axis) and max(axis) <= 2 * side
        for axis, side in ((value[0::2], size[1]), (value[1::2], size[0]))
    )  # fmt: skip
    if not (inside and all(map(math.isfinite, value))):
        raise ValueError(f"has a polygon with a point far outside its {size[0]} x {size[1]} pixels")
    return np.array(value, dtype=np.float64)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "image": _path,
    "expression": _expression,
    "mask": _mask,
    "category": _text,
    "language": _language,
    "image_id": _text,
    "sample_id": _text,
    "n_targets": _count,
}
_CHECKS_BUT_RUNS = _CHECKS | {"mask": partial(_mask, runs=False)}
