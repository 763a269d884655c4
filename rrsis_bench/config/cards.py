"""What ``rrsis-bench list`` shows: models and datasets, from their configuration files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rrsis_bench import registry
from rrsis_bench.errors import unknown

WIDE = 100
"""Columns of a terminal from which on the datasets' licences are listed."""


def collect(root: Path = registry.ROOT) -> dict[str, list[dict[str, Any]]]:
    """Cards of all models (with source and views) and datasets (with where to get them), by name."""
    models = [
        {"name": entry.name, "source": entry.source, **registry.card(entry)}
        for entry in registry.entries(root).values()
    ]
    datasets = [{"name": path.stem, **_card(path)} for path in sorted((root / "conf" / "data").glob("*.yaml"))]
    return {"models": sorted(models, key=lambda model: model["name"]), "datasets": datasets}


def data_config(name: str, root: Path = registry.ROOT) -> dict[str, Any]:
    """The ``data`` node of ``conf/data/<name>.yaml``; UserError with suggestions where there is none."""
    folder = root / "conf" / "data"
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise unknown("dataset", name, sorted(path.stem for path in folder.glob("*.yaml")))
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return raw.get("data", raw)


def _card(path: Path) -> dict[str, Any]:
    node = data_config(path.stem, path.parent.parent.parent)
    return {**node["card"], "counts": node["counts"]}


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print both lists as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    models = Table(title="Models", title_justify="left", title_style="bold")
    for column in ("name", "paper", "venue", "params (M)", "views", "source"):
        models.add_column(column, overflow="fold")
    for model in found["models"]:
        views = ", ".join(f"{name} {side}" for name, side in (model.get("views") or {}).items())
        parameters = f"{model['params_m']:.1f}" if model.get("params_m") else ""
        models.add_row(
            model["name"], model.get("title", ""), model.get("venue", ""), parameters, views, model["source"]
        )
    datasets = Table(title="Datasets", title_justify="left", title_style="bold")
    licences = console.width >= WIDE
    for column in ("name", "dataset", "train/val/test", *(["licence"] if licences else []), "where to get it"):
        datasets.add_column(column, overflow="fold", no_wrap=column in ("name", "train/val/test"))
    for dataset in found["datasets"]:
        counts = dataset["counts"]
        sizes = "/".join(f"{counts[split]:,}" for split in ("train", "val", "test")) if counts else ""
        licence = [dataset.get("licence", "")] if licences else []
        datasets.add_row(dataset["name"], dataset.get("title", ""), sizes, *licence, dataset.get("get", ""))
    console.print(models)
    console.print(datasets)
    console.print("Licence, layout, known defects of one:  rrsis-bench data info <name>")
    console.print("Train and evaluate one:  make bench MODEL=<name> DATA=<name>")
