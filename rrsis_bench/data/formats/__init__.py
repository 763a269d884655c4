"""Dataset formats: one folder per on-disk format, found by its name and imported on first use.

``formats/<format>/dataset.py`` has ``open_split(root, split) -> ReferringDataset`` (its keyword-only arguments are the
format's ``data.options``) and ``LAYOUT``, its files as a tree. ``formats/<format>/verify.py`` has
``verify_<format>(root, expected_counts, console) -> VerifyReport``. Nothing has to be registered.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError

if TYPE_CHECKING:
    from rrsis_bench.interfaces import ReferringDataset

FORMATS = ("rrsisd", "refsegrs", "risbench", "nwpu_refer", "custom")
SPLITS = ("train", "val", "test")


def known_formats() -> tuple[str, ...]:
    """The formats whose readers are present."""
    return tuple(name for name in FORMATS if find_spec(f"{__name__}.{name}.dataset") is not None)


def format_module(fmt: str) -> ModuleType:
    """Import the reader of a format; raises UserError with the nearest names for an unknown one."""
    known = known_formats()
    if fmt not in known:
        near = difflib.get_close_matches(fmt.lower(), known, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"There is no reader for the dataset format '{fmt}' (present: {', '.join(known)}).{hint}")
    return importlib.import_module(f"{__name__}.{fmt}.dataset")


def open_split(fmt: str, root: Path, split: str, options: Mapping[str, Any] | None = None) -> ReferringDataset:
    """Open one split of a dataset in the named on-disk format.

    Args:
        fmt: a name of `known_formats`, such as ``"rrsisd"``.
        root: the dataset's folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        options: ``data.options``, the keyword-only arguments of the format's ``open_split``; most formats have none.

    Raises:
        UserError: unknown format, split or option, or a dataset that is missing or unreadable.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split '{split}'; the splits are {', '.join(SPLITS)}.")
    opener = format_module(fmt).open_split
    known = [name for name, field in inspect.signature(opener).parameters.items() if field.kind is field.KEYWORD_ONLY]
    unknown = [str(name) for name in options or {} if name not in known]
    if unknown:
        has = f"has: {', '.join(known)}" if known else "has none"
        raise UserError(f"Unknown data.options: {', '.join(unknown)}. The format '{fmt}' {has}.")
    dataset: ReferringDataset = opener(Path(root), split, **(options or {}))
    return dataset
