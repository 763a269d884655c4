"""Checks the file names of ``conf/recipe``: Hydra passes over a recipe whose name matches nothing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rrsis_bench.errors import UserError, suggestion

SHARED = "shared"  # the recipes that all models start from


def check_recipes(conf: Path, models: Collection[str]) -> None:
    """Refuse a recipe file that no combination of model, dataset and size would ever read.

    ``recipe/<model>/<size>.yaml`` applies to a model at a size, ``recipe/<model>/<data>_<size>.yaml`` to one dataset.

    Args:
        conf: the folder ``conf``.
        models: names of all models.

    Raises:
        UserError: naming the file and the nearest valid name.
    """
    sizes = _names(conf / "size")
    known = {*sizes, *(f"{data}_{size}" for data in _names(conf / "data") for size in sizes)}
    folders = sorted(path for path in (conf / "recipe").iterdir() if path.is_dir() and path.name != SHARED)
    for folder in folders:
        if folder.name not in models:
            raise UserError(f"{folder}: there is no model '{folder.name}'.{suggestion(folder.name, models)} Rename it.")
        for path in sorted(folder.iterdir()):
            if path.suffix != ".yaml" or path.stem not in known:
                raise UserError(
                    f"{path} is never read: its name must be <size>.yaml or <data>_<size>.yaml."
                    f"{suggestion(path.stem, known)} Rename or delete it."
                )


def _names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.yaml")}
