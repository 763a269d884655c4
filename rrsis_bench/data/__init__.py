"""Datasets, found by the name of their on-disk format: one module per format, imported on first use.

A format module ``rrsis_bench/data/<format>.py`` has ``open_split(root, split) -> ReferringDataset`` and
``verify(root, expected_counts) -> VerifyReport``; nothing has to be registered.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrsis_bench.errors import UserError

if TYPE_CHECKING:
    from rrsis_bench.interfaces import ReferringDataset

FORMATS = ("rrsisd", "refsegrs", "risbench", "nwpu_refer")
SPLITS = ("train", "val", "test")


def known_formats() -> tuple[str, ...]:
    """The formats whose readers are present."""
    return tuple(name for name in FORMATS if find_spec(f"{__name__}.{name}") is not None)


def format_module(fmt: str) -> ModuleType:
    """Import the reader of a format; raises UserError with the nearest names for an unknown one."""
    known = known_formats()
    if fmt not in known:
        near = difflib.get_close_matches(fmt.lower(), known, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"There is no reader for the dataset format '{fmt}' (present: {', '.join(known)}).{hint}")
    return importlib.import_module(f"{__name__}.{fmt}")


def open_split(fmt: str, root: Path, split: str) -> ReferringDataset:
    """Open one split of a dataset in the named on-disk format.

    Args:
        fmt: a name of `known_formats`, such as ``"rrsisd"``.
        root: the dataset's folder.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        UserError: unknown format or split, or a dataset that is missing or unreadable.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split '{split}'; the splits are {', '.join(SPLITS)}.")
    dataset: ReferringDataset = format_module(fmt).open_split(Path(root), split)
    return dataset
