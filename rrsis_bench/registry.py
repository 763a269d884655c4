"""Finds models by name: ``models/<name>.py`` (or folder) with ``conf/model/<name>.yaml``, or an installed plugin.

Nothing is imported until a model is asked for, so listing costs milliseconds and never imports torch. A plugin offers
an entry point in the group ``rrsis_bench.models`` (``name = "package.module"``) and keeps its ``model/<name>.yaml``
in a ``conf`` folder inside its top-level package.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError, reason, unknown
from rrsis_bench.resources import ROOT

if TYPE_CHECKING:
    from rrsis_bench.interfaces import Segmenter

ENTRY_POINT_GROUP = "rrsis_bench.models"
SHARED = frozenset({"blocks"})  # folders of models/ that hold shared blocks, not a model


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """Where a model comes from.

    Attributes:
        name: registry name, equal to the yaml's and the module's.
        module: dotted module that defines the one `Segmenter` subclass.
        source: ``"in-tree"`` or the plugin's distribution and version.
        conf: the model's yaml; may be missing, which `card` reports.
    """

    name: str
    module: str
    source: str
    conf: Path


def _in_tree(root: Path) -> list[ModelEntry]:
    entries = []
    for path in sorted((root / "models").iterdir()):
        is_module = path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
        if not is_module or path.stem.startswith(("_", ".")) or path.stem in SHARED:
            continue
        conf = root / "conf" / "model" / f"{path.stem}.yaml"
        entries.append(ModelEntry(path.stem, f"rrsis_bench.models.{path.stem}", "in-tree", conf))
    return entries


def plugin_conf(module: str) -> Path:
    """The ``conf`` folder of a plugin's top-level package, found without importing it."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    locations = list(spec.submodule_search_locations or []) if spec else []
    if not locations:
        raise UserError(f"The plugin module '{module}' cannot be found, or is not inside a package. Reinstall it.")
    return Path(locations[0]) / "conf"


def _plugins() -> list[ModelEntry]:
    entries = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        source = f"{point.dist.name} {point.dist.version}" if point.dist else "plugin"
        conf = plugin_conf(point.module) / "model" / f"{point.name}.yaml"
        entries.append(ModelEntry(point.name, point.module, source, conf))
    return entries


def entries(root: Path = ROOT) -> dict[str, ModelEntry]:
    """All models by name, in-tree first.

    Raises:
        UserError: a name is offered twice (file and folder, or a plugin with a taken name).
    """
    found: dict[str, ModelEntry] = {}
    for entry in [*_in_tree(root), *_plugins()]:
        if entry.name in found:
            other = found[entry.name]
            raise UserError(
                f"The model name '{entry.name}' is offered twice: by {other.module} ({other.source}) and by "
                f"{entry.module} ({entry.source}). Rename or remove one of them."
            )
        found[entry.name] = entry
    return found


def find(name: str, root: Path = ROOT) -> ModelEntry:
    """The entry of one model; an unknown name raises UserError with suggestions."""
    found = entries(root)
    if name not in found:
        raise unknown("model", name, sorted(found))
    return found[name]


def load_class(name: str) -> type[Segmenter]:
    """Import a model's module and return the one `Segmenter` subclass that it defines.

    Raises:
        UserError: unknown name, no or several such classes.
    """
    from rrsis_bench.interfaces import Segmenter

    entry = find(name)
    module = importlib.import_module(entry.module)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Segmenter)
        and (value.__module__ == entry.module or value.__module__.startswith(entry.module + "."))
    ]
    if len(classes) != 1:
        names = ", ".join(cls.__name__ for cls in classes) or "none"
        raise UserError(f"{entry.module} must define exactly one public Segmenter subclass, found: {names}.")
    return classes[0]


def card(entry: ModelEntry) -> dict[str, Any]:
    """The model's card (title, venue, url, code, params_m) and its views at paper size, without torch or Hydra.

    Raises:
        UserError: its yaml is missing or cannot be read.
    """
    import yaml
    from omegaconf import OmegaConf

    if not entry.conf.exists():
        raise UserError(f"The model '{entry.name}' has no configuration: write {entry.conf}.")
    try:
        loaded = OmegaConf.load(entry.conf)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{entry.conf} cannot be read: {reason(error)}.") from error
    if not OmegaConf.is_dict(loaded):
        raise UserError(f"{entry.conf} is no mapping. Write it: name, card and args of the model '{entry.name}'.")
    node = OmegaConf.select(loaded, "model") or loaded  # a file that chooses backbones has the global package
    size = OmegaConf.merge(*_paper_size(entry.name, OmegaConf.select(loaded, "defaults") or []))
    model = OmegaConf.create({"size": size, "model": node}).model
    views = OmegaConf.select(model, "args.views") or OmegaConf.select(model, "card.views")  # a model may derive them
    found: Any = OmegaConf.to_container(model.card) if "card" in model else {}
    return {**found, "views": None if views is None else OmegaConf.to_container(views, resolve=True)}


def _paper_size(name: str, defaults: list[Any]) -> Iterator[Any]:
    """Yield the nodes that make up ``size`` at paper size.

    Args:
        name: of the model; its recipe may change the size.
        defaults: the list of that name in the model's file, which may choose the backbones.
    """
    from omegaconf import OmegaConf

    conf = ROOT / "conf"
    yield OmegaConf.load(conf / "size" / "paper.yaml")
    chosen = [str(entry["override /backbones"]) for entry in defaults if "override /backbones" in entry]
    for path in (
        *(conf / "size" / backbones / "paper.yaml" for backbones in chosen),
        conf / "recipe" / name / "paper.yaml",
    ):
        if path.is_file():
            yield OmegaConf.select(OmegaConf.load(path), "size") or OmegaConf.create()
