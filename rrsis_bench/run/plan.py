"""What a run is, before anything is computed: its data, its rules, its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from rrsis_bench import codec, registry
from rrsis_bench.config import hashes as hashing
from rrsis_bench.config.fields import check_bounds
from rrsis_bench.config.protocol import METRIC_VERSION, Protocol
from rrsis_bench.config.schema import TrainConfig
from rrsis_bench.data.checks.fingerprint import fingerprint
from rrsis_bench.data.checks.gate import require_verified
from rrsis_bench.data.formats import read_index
from rrsis_bench.errors import UserError
from rrsis_bench.files import write_files
from rrsis_bench.interfaces import ReferringDataset
from rrsis_bench.results.record.schema import DatasetCard
from rrsis_bench.run import build, provenance
from rrsis_bench.train.recipe import check_recipe

PREDICTIONS = ("none", "save")

# Overrides that name a run, or that change nothing of what was trained: these are no variant of a model.
_NAMED_ELSEWHERE = (
    "model", "data", "size", "seed", "trainer", "protocol", "logger", "debug", "ablation", "force", "controls",
    "checkpoint", "predictions", "runs", "results", "limit", "hydra", "data.", "trainer.", "protocol.", "logger.",
    "runs.", "results.", "limit.", "hydra.", "model.card.",
)  # fmt: skip


def variant(overrides: Sequence[str]) -> tuple[str, ...]:
    """What makes a run another than its model's default, of the overrides that the user typed.

    ``model.args.`` is left out of the names: ``["model=csinet", "model.args.gate=false"]`` gives ``("gate=false",)``.
    """
    found = []
    for override in overrides:
        name = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if not any(name == entry or (entry[-1] == "." and name.startswith(entry)) for entry in _NAMED_ELSEWHERE):
            found.append(override.lstrip("+").removeprefix("model.args."))
    return tuple(found)


def parse_recipe(values: dict[str, Any]) -> TrainConfig:
    """The node ``train``, checked."""
    recipe = codec.decode(TrainConfig, values, "The configuration", path="train")
    check_bounds(recipe, "train")
    return recipe


@dataclass(frozen=True, slots=True)
class OpenData:
    """An opened dataset, with what a record says about it.

    Attributes:
        root: its folder.
        splits: those that were asked for.
        expected: split -> samples of a complete copy; None where nothing is known.
        limit: splits that are not whole, by choice or because the copy is not: split -> samples.
        fingerprint: content hash over all splits; None where another split than those asked for cannot be read.
        found: split -> samples that this copy has, ``limit.<split>`` left aside.
    """

    root: Path
    splits: dict[str, ReferringDataset]
    expected: dict[str, int] | None
    limit: dict[str, int]
    fingerprint: str | None
    found: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls, config: dict[str, Any], console: Console, root: Path | None = None, names: Sequence[str] = build.SPLITS
    ) -> OpenData:
        """Open the splits `names`; warns where the copy is not complete.

        Args:
            config: the composed configuration.
            console: for warnings.
            root: the dataset's folder; None: where ``data.root`` says, synthetic scenes being written on first use.
            names: the splits to open.

        Raises:
            UserError: one of them cannot be read; or, where all are asked for, the dataset has any error.
        """
        root = build.data_root(config["data"], console) if root is None else root
        index = read_index(config["data"]["format"], root, build.data_options(config["data"]))
        splits = build.open_splits(index, config["limit"], names)
        for note in (note for split in names for note in index.notes.get(split, ())):
            console.print(escape(note), soft_wrap=True, highlight=False)
        hashes = Path(config["runs"]["root"]) / ".fingerprints"
        if set(names) == set(build.SPLITS):
            require_verified(index, hashes, console)
        try:
            content = fingerprint(index, hashes)
        except UserError as error:
            if set(names) == set(build.SPLITS):
                raise
            console.print(
                f"[yellow]The dataset's fingerprint is unknown:[/yellow] {escape(str(error))}", soft_wrap=True
            )
            content = None
        expected = build.expected_counts(config["data"])
        found = {split: index.counts[split] for split in names}
        short = {split: n for split, n in (expected or {}).items() if split in found and n != found[split]}
        if short:
            counts = ", ".join(
                f"{split} {found[split]:,} of {n:,}" for split, n in (expected or {}).items() if split in found
            )
            console.print(
                f"[yellow]{config['data']['name']} in {root} is not a complete copy ({counts} samples): "
                "the row will not be ranked.[/yellow]"
            )
        limit = {split: found[split] for split in short}
        limit |= {split: len(dataset) for split, dataset in splits.items() if len(dataset) != found[split]}
        return cls(root, splits, expected, limit, content, found)


@dataclass
class Setting:
    """What every record needs before anything is scored, and where it goes."""

    config: dict[str, Any]
    protocol: Protocol
    data: OpenData
    train_hash: str
    eval_hash: str
    run_id: str
    variant: tuple[str, ...]  # overrides that make the run another than its model's default
    git: tuple[str | None, bool | None]  # commit and dirt when the run starts: what was edited meanwhile did not run

    @classmethod
    def prepare(cls, config: dict[str, Any], console: Console, overrides: Sequence[str] = ()) -> Setting:
        """Open the data, check the configuration and name the run; bad input stops here, before any training.

        Args:
            config: the composed configuration.
            console: for warnings.
            overrides: what the user typed to compose it, for the row's label.
        """
        protocol = Protocol.from_mapping(config["protocol"])
        check_recipe(parse_recipe(config["train"]))
        if config["predictions"] not in PREDICTIONS:
            raise UserError(f"predictions={config['predictions']} is not one of: {', '.join(PREDICTIONS)}.")
        if config["predictions"] == "save" and protocol.resolution != "native":
            raise UserError(
                f"predictions=save writes masks at native size, but protocol '{protocol.name}' compares them at the "
                f"model's input size (protocol.resolution={protocol.resolution}). Use protocol=native."
            )
        data = OpenData.open(config, console)
        assert data.fingerprint is not None, "all splits were asked for"
        train_hash, eval_hash = hashing.hashes(config, data.fingerprint, METRIC_VERSION)
        run_id = hashing.run_id(config, train_hash)
        git = provenance.git_state(registry.ROOT)
        return cls(config, protocol, data, train_hash, eval_hash, run_id, variant(overrides), git)

    @property
    def dataset_card(self) -> DatasetCard | None:
        """The dataset's card (``data.card``) with its split sizes; None where its configuration has none."""
        card = self.config["data"].get("card")
        if not card:
            return None
        return DatasetCard(
            title=str(card["title"]),
            source=str(card["get"]),
            licence=str(card["licence"]),
            citation=card.get("bibtex"),
            defects=[" ".join(str(defect).split()) for defect in card.get("defects") or ()],
            samples=dict(self.data.expected or self.data.found),
        )

    @property
    def recipe(self) -> TrainConfig:
        """How the model is trained."""
        return parse_recipe(self.config["train"])

    @property
    def run_dir(self) -> Path:
        """The folder of everything that the run writes but its row."""
        return Path(self.config["runs"]["root"]) / self.run_id

    @property
    def results(self) -> Path:
        """The leaderboards' folder."""
        return Path(self.config["results"]["root"])

    @property
    def predictions(self) -> Path | None:
        """Where the masks of the test split are kept; None where they are not asked for."""
        return self.run_dir / "predictions" / "test.jsonl" if self.config["predictions"] == "save" else None

    def write_manifest(self, status: str, **values: Any) -> None:
        """Say in ``manifest.json`` what this folder holds and how far it came."""
        content = {"run_id": self.run_id, "status": status, "train_hash": self.train_hash, **values}
        write_files({self.run_dir / "manifest.json": (json.dumps(content, indent=1) + "\n").encode()})

    def finished(self) -> bool:
        """Whether this run was trained and recorded in its folder."""
        try:
            manifest = json.loads((self.run_dir / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return manifest.get("status") == "finished" and manifest.get("train_hash") == self.train_hash
