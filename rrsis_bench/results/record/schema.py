"""The record of a run and the columns of every table: the one place that knows these names.

A record is one immutable JSON file per run. None (``null``, an empty cell) means "not measured", never 0. Quality is in
percent. `SCHEMA_VERSION` rises with every change of these fields; `ADDED` says what a record of an older version lacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rrsis_bench.config.protocol import Protocol

SCHEMA_VERSION = 4

ADDED: dict[int, dict[str, Any]] = {
    2: {"variant": [], "predictions_sha256": None},
    3: {"per_target": {}},
    4: {"dataset_card": None},
}
"""Schema version -> the fields that it brought and what they are in a record that was written before."""

TABLES_VERSION = 3
"""The last version that changed what the tables show. Older records are shown as records of this one, so that a version
that concerns only the records leaves every table as it is."""

THRESHOLDS = (5, 6, 7, 8, 9)
"""Tenths of IoU at which Pr@X is reported."""

PRECISIONS = tuple(f"pr{tenth}0" for tenth in THRESHOLDS)
INTERVALS = ("miou", "oiou", *PRECISIONS)
"""Metrics that carry a 95% interval, in ``<metric>_lo`` and ``<metric>_hi``."""

UNMATCHED = "(unmatched)"
"""The row of samples without a category."""

NO_TARGET = "no_target"
"""The size class of samples whose target is empty, and the class of those whose expression denotes no object."""

TARGET_CLASSES = ("single", "multi", NO_TARGET, "unknown")
"""Classes of samples by the number of objects that the expression denotes: one, several, none, not known."""

CONTROLS = ("shuffled_text", "same_image_other_expression", "category_only")
"""Language controls: the true targets scored against predictions for a wrong or a reduced expression."""

Status = Literal["finished", "interrupted", "nan", "oom", "failed"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Scores of some of the samples (a category, a size class, a language)."""

    n: int  # samples
    n_targeted: int  # samples whose target is not empty
    intersection: int  # pixels, summed
    union: int  # pixels, summed
    miou: float | None  # mean of the samples' IoU (gIoU)
    oiou: float | None  # summed intersection over summed union (cIoU)
    pr50: float | None  # share of samples with IoU >= 0.5
    pr60: float | None
    pr70: float | None
    pr80: float | None
    pr90: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Scores over the whole split; ``_lo`` and ``_hi`` bound the 95% bootstrap interval, clustered by image."""

    n_targeted: int | None = None  # samples whose target is not empty
    intersection: int | None = None  # pixels, summed
    union: int | None = None  # pixels, summed
    miou: float | None = None
    miou_lo: float | None = None
    miou_hi: float | None = None
    oiou: float | None = None
    oiou_lo: float | None = None
    oiou_hi: float | None = None
    pr50: float | None = None
    pr50_lo: float | None = None
    pr50_hi: float | None = None
    pr60: float | None = None
    pr60_lo: float | None = None
    pr60_hi: float | None = None
    pr70: float | None = None
    pr70_lo: float | None = None
    pr70_hi: float | None = None
    pr80: float | None = None
    pr80_lo: float | None = None
    pr80_hi: float | None = None
    pr90: float | None = None
    pr90_lo: float | None = None
    pr90_hi: float | None = None
    miou_targeted: float | None = None  # mIoU over the samples whose target is not empty
    macro_miou: float | None = None  # mean over the categories' mIoU; samples without a category stay out
    macro_oiou: float | None = None  # mean over the categories' oIoU
    nacc: float | None = None  # no-target samples predicted as such; None where there are none
    tacc: float | None = None  # targeted samples predicted as such; None where there are no no-target samples


@dataclass(frozen=True, slots=True)
class ControlScores:
    """Scores of one language control."""

    n: int  # samples that the control could be made for
    miou: float | None
    oiou: float | None


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What the evaluated model costs."""

    params_total: int | None = None
    params_trainable: int | None = None
    gflops: float | None = None  # one forward pass, 1 multiply-accumulate = 2 operations
    gflops_batch: int | None = None  # batch size that `gflops` covers
    input_size: dict[str, int] | None = None  # view -> side in pixels
    latency_ms: float | None = None  # median per batch
    fps: float | None = None  # samples per second at the median latency
    batch: int | None = None  # batch size of latency, fps and memory
    device: str | None = None
    precision: str | None = None
    peak_mem_gb: float | None = None  # 1 GB = 2^30 bytes


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a reader of the record has to know about its data, as it was known when the run was scored."""

    title: str
    source: str  # where to get it
    licence: str
    citation: str | None  # BibTeX
    defects: list[str]  # known ones
    samples: dict[str, int]  # split -> samples: as published, or as found where nothing is


@dataclass(frozen=True, slots=True)
class CountsFile:
    """The integers per sample beside the record."""

    file: str  # file name, in the record's folder
    sha256: str
    n: int  # rows


@dataclass(frozen=True, slots=True)
class Record:
    """One run, as stored in ``records/<data>/<model>/<run_id>.json``."""

    # What was run
    run_id: str
    status: Status
    model: str
    model_source: str  # "in-tree", or the plugin's distribution and version
    size: str
    data: str
    dataset_fingerprint: str | None  # sha256 over ids, expressions, masks and image files
    split: Split
    n: int  # samples scored
    n_expected: int | None  # samples that the split has
    limit: dict[str, int] | None  # split -> sample limit, training included; None = full
    seed: int
    epochs: int | None  # None for a checkpoint that was not trained here
    train_hash: str  # over the config fields that affect the weights, the seed left out
    eval_hash: str  # over the config fields that affect the scoring
    variant: list[str]  # overrides that make the run another than its model's default: ["interaction=only_remote"]

    # How it was scored
    protocol: Protocol
    metric_version: str
    selection_split: Split | None  # the split that picked the checkpoint; None where nothing was picked
    selection_metric: str | None

    # Where the weights come from, and what ran
    weights_sha256: str | None  # of the evaluated weights
    predictions_sha256: str | None  # of the masks, where they came from outside; None where the suite made them
    init_weights: dict[str, str]  # part -> "random", a hub id, or a local file's sha256
    git_sha: str | None
    git_dirty: bool | None  # changes under leaderboards/ do not count
    versions: dict[str, str]  # package -> version: rrsis_bench, python, torch, cuda, ...
    device: str  # "cpu", "cuda"
    device_name: str | None  # the GPU's or processor's name
    world_size: int
    precision: str
    started_utc: str  # ISO 8601
    wall_s: float | None  # training and evaluation, all attempts

    # What came out
    metrics: Metrics = field(default_factory=Metrics)
    control: dict[str, ControlScores] = field(default_factory=dict)  # name of the control -> scores
    per_category: dict[str, GroupScores] = field(default_factory=dict)
    per_size: dict[str, dict[str, GroupScores]] = field(default_factory=dict)  # scheme -> class -> scores
    per_language: dict[str, GroupScores] = field(default_factory=dict)  # empty where there is one language
    per_target: dict[str, GroupScores] = field(default_factory=dict)  # of TARGET_CLASSES; empty where there is one
    efficiency: Efficiency = field(default_factory=Efficiency)
    counts: CountsFile | None = None  # None where no sample was scored
    notes: list[str] = field(default_factory=list)  # what a reader of the row must know; shown in the tables
    dataset_card: DatasetCard | None = None  # None where the dataset's configuration has none
    rescored_from: str | None = None  # metric version of the first scoring, where the record was scored again
    schema_version: int = SCHEMA_VERSION


# Columns of the generated tables. A row is one train hash; where its seeds differ, provenance columns list all values.

_ROW = ("rank", "model", "variant", "size", "split", "protocol", "n_seeds")
_SCORES = tuple(name for metric in INTERVALS for name in (metric, f"{metric}_std"))
_PROVENANCE = (
    "reason", "notes", "data", "dataset_fingerprint", "n", "n_expected", "limit", "metric_version", "protocol_id",
    "selection_split", "selection_metric", "status", "epochs", "seeds", "run_ids", "train_hash", "eval_hash",
    "weights_sha256", "predictions_sha256", "init_weights", "model_source", "git_sha", "git_dirty", "package_version",
    "torch", "cuda", "device", "device_name", "world_size", "precision", "started_utc", "wall_s", "schema_version",
)  # fmt: skip

LEADERBOARD_COLUMNS = (
    *_ROW, "miou", "miou_std", "miou_lo", "miou_hi", "oiou", "oiou_std", "oiou_lo", "oiou_hi",
    *(name for pr in PRECISIONS for name in (pr, f"{pr}_std")),
    "macro_miou", "nacc", "tacc", *(f"{control}_miou" for control in CONTROLS),
    "params_m", "gflops", "fps", "peak_mem_gb", *_PROVENANCE,
)  # fmt: skip

PER_CATEGORY_COLUMNS = (*_ROW, "category", "n", *_SCORES, "train_hash", "reason")

PER_SIZE_COLUMNS = (*_ROW, "scheme", "size_class", "n", *_SCORES, "train_hash", "reason")

PER_THRESHOLD_COLUMNS = (*_ROW, "threshold", "pr", "pr_std", "pr_lo", "pr_hi", "train_hash", "reason")

EFFICIENCY_COLUMNS = (
    "model", "variant", "size", "data", "params_total", "params_trainable", "gflops", "gflops_batch", "input_size",
    "latency_ms", "fps", "batch", "device", "precision", "peak_mem_gb", "n_runs", "train_hash",
)  # fmt: skip

MACRO_ROW = "(macro mean)"
"""The row of ``<data>_per_category.csv`` that averages over the categories."""
