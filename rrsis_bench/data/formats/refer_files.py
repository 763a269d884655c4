"""Annotation files in the layout of the REFER API, which RRSIS-D and NWPU-Refer share: reading and common checks."""

from __future__ import annotations

import gc
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rrsis_bench.codec import parse_json
from rrsis_bench.data.formats.index import ERROR, WARNING, DatasetIndex, natural
from rrsis_bench.data.formats.unpickle import load_plain_pickle
from rrsis_bench.errors import UserError

Record = dict[str, Any]

LARGEST_ID = 2**63 - 1


def read_refs_file(path: Path) -> list[Record]:
    """Read a pickled list of references.

    Raises:
        UserError: the file is missing, unsafe, damaged or differently shaped.
    """
    with collector_paused():
        refs = load_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise UserError(f"{path} does not hold a list of references (dicts). Fetch the file again.")
    for ref in refs:
        for name in ("ref_id", "image_id", "ann_id", "category_id"):
            if name in ref:
                _require_id(path, "a reference", name, ref[name])
    return refs


def read_instances_file(path: Path) -> dict[str, list[Record]]:
    """Read images, annotations and categories.

    Raises:
        UserError: the file is missing, damaged or differently shaped.
    """
    try:
        with open(path, "rb") as file, collector_paused():
            instances = parse_json(file.read())  # of bytes: UTF-8, UTF-16 and UTF-32, with or without a mark
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise UserError(f"{path} is truncated or not JSON ({error}). Fetch the file again.") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply for an instances file. Fetch the file again.") from None
    for key in ("images", "annotations", "categories"):
        rows = instances.get(key) if isinstance(instances, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path} does not hold a list of records under '{key}'. Fetch the file again.")
        for row in rows:
            _require_id(path, f"a record of '{key}'", "id", row.get("id"))
    _check_categories(path, instances["categories"])
    found: dict[str, list[Record]] = instances
    return found


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause garbage collection, which would walk through a million new lists again and again: half the parsing time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _require_id(path: Path, what: str, name: str, value: object) -> None:
    """Refuse a value that cannot be an id, such as null or a list."""
    if (type(value) is int and 0 <= value <= LARGEST_ID) or (isinstance(value, str) and value.strip()):
        return
    shown = str(type(value).__name__) if isinstance(value, int) and abs(value) > LARGEST_ID else reprlib.repr(value)
    raise UserError(
        f"{path}: {what} has {name} {shown}, which is not an id. An id is a whole number from 0 or a text. "
        "Repair the record or fetch the file again."
    )


def _check_categories(path: Path, rows: list[Record]) -> None:
    """Refuse categories without a whole number or a name of their own: the tables are sorted and labelled by them."""
    ids, names = set[int](), set[str]()
    for row in rows:
        number, name = row["id"], row.get("name")
        if type(number) is not int:
            raise UserError(f"{path}: the category {name!r} has the 'id' {number!r}. It must be a whole number.")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{path}: category {number} has the 'name' {name!r}. It must be a text.")
        if number in ids or name in names:
            raise UserError(f"{path}: a category 'id' or 'name' occurs twice: {number}, '{name}'. Rename one of them.")
        ids.add(number)
        names.add(name)


def id_of(ref_id: Any) -> str:
    """Return the suite's id of a reference: numbers have five digits or more, so that they sort."""
    return f"{ref_id:05d}" if isinstance(ref_id, int) else str(ref_id)


def category_names_of(instances: dict[str, list[Record]]) -> dict[Any, str]:
    """Return category id -> name, in the order of the ids."""
    return {row["id"]: row["name"] for row in sorted(instances["categories"], key=lambda row: row["id"])}


def text_of(sentence: object) -> str:
    """Return a sentence's ``raw`` text (else ``sent``) without outer spaces; empty if it has no word."""
    text = sentence.get("raw", sentence.get("sent")) if isinstance(sentence, dict) else None
    return text.strip() if isinstance(text, str) else ""


def check_ids(index: DatasetIndex, refs: list[Record], instances: dict[str, list[Record]]) -> None:
    """Add findings for repeated ids of references, annotations and images: what they name would be ambiguous."""
    for kind in ("annotation", "image"):
        seen: set[Any] = set()
        for row in instances[f"{kind}s"]:
            if row.get("id") in seen:
                index.add(ERROR, f"duplicate_{kind}", f"{kind} {row.get('id')}", "occurs twice in the instances file")
            seen.add(row.get("id"))
    splits: dict[Any, list[str]] = defaultdict(list)
    for ref in refs:
        splits[id_of(ref.get("ref_id"))].append(str(ref.get("split")))  # the number 1 and the text "00001" are one id
    for ref_id, found in splits.items():
        if len(set(found)) > 1:
            message = f"ref_id {ref_id} is in the splits {', '.join(sorted(set(found)))}"
            index.add(ERROR, "id_in_two_splits", ref_id, message)
        if len(found) > len(set(found)):
            index.add(ERROR, "duplicate_id", ref_id, f"ref_id {ref_id} occurs {len(found)} times")


def check_unused(index: DatasetIndex, folder: str, present: set[str], named: Iterable[str]) -> None:
    """Add a finding for the image files that no reference names."""
    unused = sorted(present.difference(named), key=natural)
    if unused:
        shown = ", ".join(f"'{name}'" for name in unused[:3]) + (" ..." if len(unused) > 3 else "")
        index.add(WARNING, "unused_file", Path(folder).name, f"no reference names {len(unused)} of its files: {shown}")


def check_fields(index: DatasetIndex, ref: Record, names: tuple[str, ...], splits: tuple[str, ...]) -> bool:
    """Add findings for missing fields and an unknown split; return whether the reference can be used."""
    where, absent = id_of(ref.get("ref_id")), [name for name in names if name not in ref]
    if absent:
        index.add(ERROR, "missing_field", where, f"the reference has no {', '.join(absent)}")
    elif ref["split"] not in splits:
        index.add(ERROR, "unknown_split", where, f"split '{ref['split']}' is not one of {', '.join(splits)}")
    else:
        return True
    return False


def check_link(
    index: DatasetIndex, ref: Record, annotations: dict[Any, Record], names: dict[Any, str], category_key: str
) -> Record | None:
    """Add findings where a reference and its annotation do not fit; return the annotation if they do."""
    where, split = id_of(ref["ref_id"]), ref["split"]
    before = len(index.findings)
    if ref["category_id"] not in names:
        index.add(ERROR, "unknown_category", where, f"category_id {ref['category_id']} is not listed", split)
    annotation = annotations.get(ref["ann_id"])
    if annotation is None:
        index.add(ERROR, "missing_annotation", where, f"there is no annotation {ref['ann_id']}", split)
        return None
    category = annotation.get(category_key, annotation.get("category_id"))
    if category != ref["category_id"]:
        message = f"category_id {ref['category_id']}, but its annotation has {category}"
        index.add(ERROR, "category_mismatch", where, message, split)
    if "image_id" in ref and annotation.get("image_id") != ref["image_id"]:
        message = f"image_id {ref['image_id']}, but its annotation has {annotation.get('image_id')}"
        index.add(ERROR, "image_mismatch", where, message, split)
    return annotation if len(index.findings) == before else None
