"""What a run is, before anything is computed: its data, its rules, its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rrsis_bench import build, provenance, registry
from rrsis_bench.data.fingerprint import fingerprint
from rrsis_bench.eval.protocol import METRIC_VERSION, Protocol
from rrsis_bench.interfaces import ReferringDataset
from rrsis_bench.results import hashing, store
from rrsis_bench.train.loop import TrainConfig

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


@dataclass
class Setting:
    """What every run needs before a model is built; made from the configuration alone."""

    config: dict[str, Any]
    protocol: Protocol
    recipe: TrainConfig
    root: Path
    splits: dict[str, ReferringDataset]
    fingerprint: str
    train_hash: str
    eval_hash: str
    run_id: str
    run_dir: Path
    results: Path
    limit: dict[str, int]  # splits that are not whole, by choice or because the copy is not: split -> samples
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
        recipe = TrainConfig.from_mapping(config["train"])
        root = build.data_root(config["data"], console)
        splits = build.open_data(config, root)
        full = (
            splits
            if not any(config["limit"].values())
            else build.open_data({**config, "limit": dict.fromkeys(build.SPLITS)}, root)
        )
        content = fingerprint(config["data"]["format"], root, Path(config["runs"]["root"]) / ".fingerprints")
        expected = build.expected_counts(config["data"])
        found = {split: len(dataset) for split, dataset in full.items()}
        if expected and expected != found:
            counts = ", ".join(f"{split} {found[split]:,} of {n:,}" for split, n in expected.items())
            console.print(
                f"[yellow]{config['data']['name']} in {root} is not a complete copy ({counts} samples): "
                "the row will not be ranked.[/yellow]"
            )
        train_hash, eval_hash = hashing.hashes(config, content, METRIC_VERSION)
        run_id = hashing.run_id(config, train_hash)
        run_dir = Path(config["runs"]["root"]) / run_id
        results = Path(config["results"]["root"])
        limit = {split: len(dataset) for split, dataset in splits.items() if len(dataset) != found[split]}
        limit |= {
            split: found[split] for split, n in (expected or {}).items() if n != found[split] and split not in limit
        }
        git = provenance.git_state(registry.ROOT)
        return cls(
            config,
            protocol,
            recipe,
            root,
            splits,
            content,
            train_hash,
            eval_hash,
            run_id,
            run_dir,
            results,
            limit,
            variant(overrides),
            git,
        )

    def write_manifest(self, status: str, **values: Any) -> None:
        """Say in ``manifest.json`` what this folder holds and how far it came."""
        content = {"run_id": self.run_id, "status": status, "train_hash": self.train_hash, **values}
        store.write_files({self.run_dir / "manifest.json": (json.dumps(content, indent=1) + "\n").encode()})

    def finished(self) -> bool:
        """Whether this run was trained and recorded in its folder."""
        try:
            manifest = json.loads((self.run_dir / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return manifest.get("status") == "finished" and manifest.get("train_hash") == self.train_hash
