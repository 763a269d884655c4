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


def check_plugin(conf: Path, models: Collection[str]) -> None:
    """Refuse configuration files of a plugin that are not those of its own models.

    Other files (``local/default.yaml``, a recipe of another model) would change runs of the suite's models unseen.

    Args:
        conf: the plugin's folder ``conf``.
        models: names of the models that the plugin offers.

    Raises:
        UserError: naming the files.
    """
    allowed = {Path("model") / f"{name}.yaml" for name in models}
    files = sorted(path.relative_to(conf) for pattern in ("*.yaml", "*.yml") for path in conf.rglob(pattern))
    others = [
        path
        for path in files
        if path not in allowed
        and not (path.parts[:1] == ("recipe",) and len(path.parts) == 3 and path.parts[1] in models)
    ]
    if others:
        names = ", ".join(path.as_posix() for path in others)
        raise UserError(
            f"The plugin's configurations in {conf} hold files that are not those of its models: {names}. A plugin may "
            "add model/<name>.yaml and recipe/<name>/*.yaml of its own models. Remove the others."
        )


def _names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.yaml")}
