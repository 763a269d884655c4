"""Cards of models and datasets, from their configuration files alone: neither torch nor Hydra is imported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from rrsis_bench import codec, registry
from rrsis_bench.config.schema import DataConfig, ModelCard
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.resources import LOCAL, ROOT

WIDE = 100
"""Columns of a terminal from which on the datasets' licences are listed."""


def collect(root: Path = ROOT) -> dict[str, list[dict[str, Any]]]:
    """Return the cards of all models (with source and views) and datasets (with their sample counts), by name.

    A model whose files do not fit is listed with its ``problem``; it does not hide the others.
    """
    models = [_listed(entry) for entry in registry.entries(root).values()]
    datasets = []
    for name in dataset_names(root):
        data = data_config(name, root)
        assert data.card is not None, f"conf/data/{name}.yaml has no card"
        datasets.append({"name": name, **dataclasses.asdict(data.card), "counts": data.counts})
    return {"models": sorted(models, key=lambda model: model["name"]), "datasets": datasets}


def _listed(entry: registry.ModelEntry) -> dict[str, Any]:
    problem = None
    try:
        card = dataclasses.asdict(model_card(entry))
    except UserError as error:
        card, problem = dict.fromkeys(field.name for field in dataclasses.fields(ModelCard)), str(error)
    return {"name": entry.name, "source": entry.source, **card, "problem": problem}


def model_card(entry: registry.ModelEntry) -> ModelCard:
    """Return a model's card, with its views at paper size; UserError if a field does not fit."""
    return codec.decode(ModelCard, registry.card(entry), str(entry.conf), path="card", defaults=True)


def printed_names(root: Path = ROOT) -> dict[str, str]:
    """Return the model's name for every name that a card says the papers' tables print."""
    return {name: entry.name for entry in registry.entries(root).values() for name in model_card(entry).printed_as}


def display_names(root: Path = ROOT) -> dict[str, str]:
    """Return every model's name as the papers print it, such as ``mrsnet`` -> ``MRSNet``."""
    cards = {entry.name: model_card(entry) for entry in registry.entries(root).values()}
    return {name: card.printed_as[0] for name, card in cards.items() if card.printed_as}


def data_config(name: str, root: Path = ROOT) -> DataConfig:
    """Return the node ``data`` of ``conf/data/<name>.yaml``.

    Raises:
        UserError: there is no such file (with suggestions), or a field does not fit.
    """
    if name not in dataset_names(root):
        raise unknown("dataset", name, dataset_names(root))
    path = next(folder / f"{name}.yaml" for folder in _folders(root) if (folder / f"{name}.yaml").is_file())
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return codec.decode(DataConfig, raw.get("data", raw), str(path), path="data", defaults=True)


def dataset_names(root: Path = ROOT) -> list[str]:
    """Return the names of the datasets with a configuration, sorted."""
    return sorted({path.stem for folder in _folders(root) for path in folder.glob("*.yaml")})


def _folders(root: Path) -> list[Path]:
    """Return the folders of datasets' configurations; those of this machine belong to the suite itself."""
    return [root / "conf" / "data", *([LOCAL / "data"] if root == ROOT else [])]


def markdown(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the models as a Markdown table, one line per model of this repository; see ``docs/models.md``."""
    header = ("name", "paper", "printed as", "parameters (M)", "held to the authors' code", "released weights")
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|---:|---|---|"]
    for model in found["models"]:
        if model["source"] == "in-tree":
            title = f"[{model['title']}]({model['url']})" if model["url"] else model["title"]
            cells = (
                f"`{model['name']}`",
                f"{title}, {model['venue']}",
                ", ".join(model["printed_as"] or ()),
                "" if model["params_m"] is None else f"{model['params_m']:.1f}",
                model["parity"] or "not stated",
                " ".join((model["weights"] or "none").split()),
            )
            lines.append("| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print both lists as tables."""
    from rich.table import Table
    from rich.text import Text

    from rrsis_bench.console import Terminal

    console = Terminal()
    models = Table(title="Models", title_justify="left", title_style="bold")
    for column in ("name", "paper", "venue", "params (M)", "views", "source"):
        models.add_column(column, overflow="fold")
    for model in found["models"]:
        views = ", ".join(f"{name} {side}" for name, side in (model["views"] or {}).items())
        parameters = f"{model['params_m']:.1f}" if model["params_m"] else ""
        title = model["title"] or model["problem"]
        models.add_row(*map(Text, (model["name"], title, model["venue"] or "", parameters, views, model["source"])))
    datasets = Table(title="Datasets", title_justify="left", title_style="bold")
    licences = console.width >= WIDE
    for column in ("name", "dataset", "train/val/test", *(["licence"] if licences else []), "source"):
        datasets.add_column(column, overflow="fold", no_wrap=column in ("name", "train/val/test"))
    for dataset in found["datasets"]:
        counts = dataset["counts"]
        sizes = "/".join(f"{counts[split]:,}" for split in ("train", "val", "test")) if counts else ""
        licence = [dataset["licence"]] if licences else []
        datasets.add_row(dataset["name"], dataset["title"], sizes, *licence, dataset["source"])
    console.print(models)
    console.print(datasets)
    console.print("Licence, files and known defects of a dataset:  rrsis-bench data info <name>")
    console.print("Train and evaluate a model:  rrsis-bench bench model=<name> data=<name>")
