"""Records and integers for the tests of metrics, store and tables; no model, no pixels but random ones."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from rrsis_bench.config.protocol import METRIC_VERSION, Protocol
from rrsis_bench.eval.counts import CountsTable, SampleCounts, count_pixels
from rrsis_bench.eval.metrics import compute_metrics
from rrsis_bench.eval.scores import ControlScores, Efficiency, Score, ScoreSet
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import DatasetCard, Record

NATIVE = Protocol("native")
LAVT = Protocol("lavt", resolution="input", align_corners=True, empty="zero", selection_metric="oiou")
CATEGORIES = ("airplane", "ship", "储罐")


def row(intersection=0, union=0, pred=0, target=0, *, sample="s0", image="i0", category="ship", language="en",
        n_targets=1, side=64, native=None) -> SampleCounts:  # fmt: skip
    """One row of integers; without `pred` and `target`, the areas that fit the intersection and the union."""
    if union and not pred and not target:
        pred, target = intersection, union
    native = target if native is None else native
    return SampleCounts(
        sample, image, category, language, n_targets, side, side, native, intersection, union, pred, target
    )


def table_of(*rows: SampleCounts) -> CountsTable:
    """A table of rows that are renamed to be distinct samples."""
    return CountsTable([dataclasses.replace(entry, sample_id=f"s{index}") for index, entry in enumerate(rows)])


def random_table(n: int = 40, seed: int = 0, quality: float = 0.6, *, no_target: bool = False,
                 languages: tuple[str, ...] = ("en",), categories=CATEGORIES) -> CountsTable:  # fmt: skip
    """Rows from random masks; `quality` is the share of target pixels that the prediction finds."""
    rng = np.random.default_rng(seed)
    table = CountsTable()
    for index in range(n):
        target_HW = rng.random((48, 56)) < rng.choice([0.002, 0.02, 0.4, 0.0 if no_target else 0.1])
        pred_HW = (target_HW & (rng.random((48, 56)) < rng.random() ** (1 - quality))) | (rng.random((48, 56)) < 0.0005)
        sample = SimpleNamespace(
            sample_id=f"s{index}", image_id=f"i{index // 2}", category=categories[index % len(categories)],
            language=languages[index % len(languages)], n_targets=int(target_HW.any()),
        )  # fmt: skip
        table.add(count_pixels(sample, pred_HW, target_HW))
    return table


def control(miou: float, n: int = 40) -> ControlScores:
    """Scores of a language control over `n` samples."""
    return ControlScores(n, {"miou": Score(miou), "oiou": Score(miou - 2)})


def flat(scores: ScoreSet | None) -> SimpleNamespace:
    """Sums and values as attributes, with the bounds of intervals as ``<name>_lo`` and ``<name>_hi``."""
    assert scores is not None
    found = {name: getattr(scores, name) for name in ("n", "n_targeted", "intersection", "union")}
    for name, score in scores.scores.items():
        found |= {name: score.value, f"{name}_lo": score.lo, f"{name}_hi": score.hi}
    return SimpleNamespace(**found)


def record_of(table: CountsTable | None, *, model="lavt", seed=0, protocol=NATIVE, resamples=50, **changes) -> Record:
    """A finished record of `table`, ranked unless `changes` say otherwise; `run_id` is put behind its valid id."""
    label = changes.pop("run_id", "").replace("-", "")
    fields: dict[str, Any] = {
        "status": "finished", "model": model,
        "model_source": "in-tree", "size": "tiny", "data": "synthetic", "dataset_fingerprint": "f" * 64,
        "split": "test", "n": len(table or ()), "n_expected": len(table or ()), "limit": None, "seed": seed,
        "epochs": 12, "train_hash": "0123abcd" * 8, "eval_hash": "e" * 64, "variant": [], "protocol": protocol,
        "metric_version": METRIC_VERSION, "selection_split": "val", "selection_metric": "miou",
        "predictions_sha256": None,
        "init_weights": {"swin": "random", "bert": "random"}, "git_sha": "c" * 40,
        "git_dirty": False, "attempts": [], "settings": {}, "train_overlap": {"val": 0, "test": 0},
        "versions": {"rrsis_bench": "0.1.0", "python": "3.11.9", "torch": "2.11.0"},
        "device": "cpu", "device_name": None, "world_size": 1, "precision": "32-true",
        "started_utc": "2026-01-02T03:04:05Z", "wall_s": 321.5,
        "control": {
            "shuffled_text": control(12.5, len(table or ())), "category_only": control(30.25, len(table or ())),
        },
        "dataset_card": DatasetCard(
            "Fake scenes", "written by a test", "CC-BY-4.0", "@misc{fake, title = {Fake}}", ["none is real"],
            {"train": 120, "val": 30, "test": 40},
        ),
        "efficiency": Efficiency(
            params_total=1_234_567, params_trainable=1_234_567, gflops=2.5, gflops_batch=1, input_size={"image": 160},
            latency_ms=40.0, fps=25.0, batch=1, device="cpu", precision="32-true", peak_mem_gb=0.75,
        ),
    }  # fmt: skip
    if table is not None:
        result = compute_metrics(table, protocol, resamples=resamples)
        fields |= {entry.name: getattr(result, entry.name) for entry in dataclasses.fields(result)}
    else:
        fields["control"] = {}
    fields |= changes
    base = "{model}-{data}-{size}-s{seed}-".format(**fields) + fields["train_hash"][:8]
    fields["run_id"] = f"{base}-{label}" if label else base
    fields.setdefault("weights_sha256", hashlib.sha256(fields["run_id"].encode()).hexdigest())
    return Record(**fields)


def put(root: Path, **changes: Any) -> Record:
    """Store a record of random masks; `quality` and `table_seed` choose them. Returns it."""
    quality, table_seed = changes.pop("quality", 0.6), changes.pop("table_seed", changes.get("seed", 0))
    table = random_table(40, seed=table_seed, quality=quality)
    record = record_of(table, **changes)
    store.write(root, record, table)
    return record
