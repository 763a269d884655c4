"""One line of a custom dataset's JSON Lines file: its fields, and what is wrong with them.

`dataset.py` describes the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rrsis_bench.data.formats.index import Row
from rrsis_bench.data.formats.masks import FileMask, PolygonMask, RleMask, StoredMask
from rrsis_bench.data.pixels import polygons, rle
from rrsis_bench.data.pixels.images import MAX_PIXELS
from rrsis_bench.data.text.language import LANGUAGES, language_of
from rrsis_bench.errors import suggestion

REQUIRED = ("image", "expression", "mask")
OPTIONAL = ("category", "language", "image_id", "sample_id", "n_targets")
FIELDS = (*REQUIRED, *OPTIONAL)


@dataclass(frozen=True, slots=True)
class Problem:
    """A defect of one line: its short fixed name, and what is wrong."""

    kind: str
    message: str


def parse(found: dict[str, Any], default_id: str, where: str, root: Path) -> tuple[Row | None, list[Problem]]:
    """Check the fields of one line.

    Args:
        found: the line, from `load`.
        default_id: the sample's id if the line gives none.
        where: how a finding names the line.
        root: the dataset's folder, which paths are relative to.

    Returns:
        The sample, or None if a required field is unusable; and every problem.
    """
    problems = [
        Problem("unknown_field", f"it has an unknown field '{name}'.{suggestion(name, FIELDS)} The fields are {_ALL}")
        for name in found
        if name not in FIELDS
    ]
    problems += [
        Problem("missing_field", f"it has no '{name}' (required: {', '.join(REQUIRED)})")
        for name in REQUIRED
        if name not in found
    ]
    values: dict[str, Any] = {"category": None, "n_targets": None, "sample_id": default_id}
    for name in FIELDS:
        if name in found and found[name] is not None:
            checked = _CHECKS[name](found[name])
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
    values["image"] = f"{root}/{values['image']}"
    mask: StoredMask = values["mask"]
    if isinstance(mask, FileMask):
        values["mask"] = FileMask(f"{root}/{mask.path}")
    else:
        empty = mask.shapes == ([],) if isinstance(mask, PolygonMask) else rle.area(mask.read_rle()) == 0
        if values["n_targets"] is None and empty:
            values["n_targets"] = 0
        elif values["n_targets"] == 0 and not empty:
            problems.append(Problem("target_mismatch", "'n_targets' is 0, but its mask is not empty"))
    return Row(where=where, **values), problems


def load(line: bytes) -> dict[str, Any] | Problem:
    """Parse one line of JSON; returns the problem if it is not an object."""
    if not line.strip():
        return Problem("not_json", "it is empty; delete it")
    try:
        found = _DECODER.decode(line.strip().decode(json.detect_encoding(line), "surrogatepass"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a key twice, or nested too deep
        return Problem("not_json", f"it is not JSON ({error})")
    if not isinstance(found, dict):
        return Problem("not_json", f"it holds {_kind(found)}, expected an object with {', '.join(REQUIRED)}")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)
_ALL = ", ".join(FIELDS)


def _text(value: object) -> str | Problem:
    if not isinstance(value, str):
        return Problem("bad_value", f"is {_kind(value)}, expected a text")
    return value if value.strip() else Problem("bad_value", "is empty")


def _expression(value: object) -> str | Problem:
    checked = _text(value)
    if checked == Problem("bad_value", "is empty"):
        return Problem("empty_expression", "has no word in it")
    return checked


# Names without a leading dot, separated by single slashes: the quick way for nearly every path.
_PLAIN_PATH = re.compile(r"[^/.\\:\0][^/\\:\0]*(?:/[^/.\\:\0][^/\\:\0]*)*")


def _path(value: object) -> str | Problem:
    """Check a path below the root, written with slashes; symbolic links are followed and checked later."""
    checked = _text(value)
    if isinstance(checked, Problem) or _PLAIN_PATH.fullmatch(checked):
        return checked
    path = PurePosixPath(checked)
    if "\\" in checked and checked[1:2] != ":":
        return Problem(
            "path_outside", f"is '{checked}', with backslashes. Write slashes: {checked.replace(chr(92), '/')}"
        )
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


def _mask(value: object) -> StoredMask | Problem:
    if isinstance(value, str):
        path = _path(value)
        return path if isinstance(path, Problem) else FileMask(path)
    if isinstance(value, list):
        return Problem(
            "unreadable_mask",
            'is a bare list, COCO\'s form of polygons. Write {"size": [height, width], "polygons": [[x, y, ...]]}',
        )
    if not isinstance(value, dict):
        return Problem("unreadable_mask", f"is {_kind(value)}, expected the path of a file, run lengths or polygons")
    try:
        if set(value) == {"size", "counts"}:
            return RleMask.of(rle.parse(value))
        if set(value) == {"size", "polygons"}:
            size = rle.parse_size(value["size"])
            if not isinstance(value["polygons"], list):
                raise ValueError(
                    f"has polygons that are {_kind(value['polygons'])}, expected a list of [x, y, x, y, ...]"
                )
            return PolygonMask((polygons.parse(value["polygons"], size),), size)
    except ValueError as error:
        return Problem("unreadable_mask", str(error))
    names = ", ".join(f"'{name}'" for name in value) or "nothing"
    return Problem("unreadable_mask", f"has {names}, expected 'size' and 'counts', or 'size' and 'polygons'")


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
