"""Dataset formats: one folder per on-disk format, found by its name and imported on first use.

``formats/<format>/dataset.py`` has

- ``read_index(root, **options) -> DatasetIndex``: reads the index files once, for all splits, and lists every defect.
  Its keyword-only arguments are the format's ``data.options``.
- ``DIRECTORY_TREE``: the files, drawn as a tree.

``formats/<format>/write.py``, where there is one, has ``write(samples, root)``, which writes synthetic scenes in that
format, and for other images than JPEG ``encode(image)``; see `rrsis_bench.data.formats.scenes`.

Nothing has to be registered: a new format is a new folder and a new configuration in ``conf/data``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rrsis_bench.data.formats import labelled
from rrsis_bench.data.formats.index import ERROR, SPLITS, DatasetIndex
from rrsis_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from rrsis_bench.data.formats.dataset import IndexedDataset

__all__ = ["SPLITS", "DatasetIndex", "format_module", "known_formats", "open_split", "read_index"]


def known_formats(module: str = "dataset") -> tuple[str, ...]:
    """Return the formats whose folder has the module, ``dataset`` or ``write``, in alphabetical order."""
    folders = [found.name for found in pkgutil.iter_modules(__path__) if found.ispkg]
    return tuple(name for name in sorted(folders) if find_spec(f"{__name__}.{name}.{module}") is not None)


def format_module(fmt: str, module: str = "dataset") -> ModuleType:
    """Import a module of a format; raises UserError for an unknown format, with the closest names."""
    known = known_formats(module)
    if fmt not in known:
        raise unknown("dataset format" if module == "dataset" else "format of synthetic scenes", fmt, known)
    return importlib.import_module(f"{__name__}.{fmt}.{module}")


def read_index(fmt: str, root: Path | str, options: Mapping[str, Any] | None = None) -> DatasetIndex:
    """Read a dataset's index files, once, for all splits. No image and no mask file is opened.

    Args:
        fmt: a name of `known_formats`, such as ``"rrsisd"``.
        root: the dataset's folder.
        options: ``data.options``, the keyword-only arguments of the format's ``read_index``; most formats have none.
            The share of labelled samples, which every format knows, is checked; the index has the whole split.

    Returns:
        The samples of every split, and every defect of the index files.

    Raises:
        UserError: unknown format or option, a missing dataset, or an index file that cannot be read at all.
    """
    reader = format_module(fmt).read_index
    known = [name for name, field in inspect.signature(reader).parameters.items() if field.kind is field.KEYWORD_ONLY]
    own = {name: value for name, value in (options or {}).items() if name != labelled.OPTION}
    labelled.share_of(options or {})
    for name in own:
        if name not in known:
            listed = ", ".join([*known, labelled.OPTION])
            raise UserError(f"Unknown data.options.{name}. Options of format '{fmt}': {listed}.")
    index: DatasetIndex = reader(Path(root), **own)
    for split in SPLITS:
        if split in index.absent:
            continue
        if not index.counts[split] and not any(finding.split == split for finding in index.findings):
            notes = " ".join(index.notes.get(split, ()))
            index.add(ERROR, "empty_split", split, f"no sample of this split. {notes}".rstrip(), split)
    return index


def open_split(fmt: str, root: Path | str, split: str, options: Mapping[str, Any] | None = None) -> IndexedDataset:
    """Open one split. For several splits call `read_index` once and make an `IndexedDataset` of each.

    Raises:
        UserError: as `read_index` and `IndexedDataset`.
    """
    from rrsis_bench.data.formats.dataset import IndexedDataset  # imports torch, which the checks do not need

    return IndexedDataset(read_index(fmt, root, options), split)
