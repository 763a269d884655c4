"""The record of a run: one immutable JSON file per run.

None (``null``) means "not measured", never 0. `SCHEMA_VERSION` rises with every change of these fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rrsis_bench import codec
from rrsis_bench.config.protocol import Protocol
from rrsis_bench.eval.scores import ControlScores, Efficiency, ProbeScores, ScoreSet

SCHEMA_VERSION = 2

Status = Literal["finished", "interrupted", "nan", "oom", "failed"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """Facts about the data that a reader of the record needs, as they were known when the run was scored."""

    title: str
    source: str  # where to get it
    licence: str
    citation: str | None  # BibTeX
    defects: list[str]  # known ones
    samples: dict[str, int]  # split -> samples: as published, else as found
    overlap: list[str] | None = codec.optional()  # known overlap of its images and sentences; None if none is known


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a training. A training that was interrupted and continued has several."""

    started_utc: str  # ISO 8601
    git_sha: str | None
    git_dirty: bool | None  # changes under leaderboards/ do not count
    sources_sha256: str | None  # over the loaded files of models/ and rrsis_bench/; None if unknown
    versions: dict[str, str]  # package -> version
    device: str  # "cpu", "cuda"
    device_name: str | None  # the GPU's or processor's name


@dataclass(frozen=True, slots=True)
class CountsFile:
    """The integers per sample beside the record."""

    file: str  # file name, in the record's folder
    sha256: str
    n: int  # rows


@dataclass(frozen=True, slots=True)
class StrataFile:
    """The classes of the samples in every stratum, one file for all records of a dataset's split."""

    file: str  # file name, in the folder above the record's; it contains the first 12 characters of the sha256
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One run, as stored in ``records/<data>/<model>/<run_id>.json``."""

    # The run
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
    seed: int | None  # None for weights or masks that were not trained here
    epochs: int | None  # None for a checkpoint that was not trained here
    train_hash: str  # over the config fields that affect the weights, the seed left out
    eval_hash: str  # over the config fields that affect the scoring
    variant: list[str]  # fields in which the run differs from its model's default: ["interaction=only_remote"]
    settings: dict[str, Any]  # dotted field -> value, of every field that affects training or evaluation
    train_overlap: dict[str, int] | None  # val, test -> samples whose image is a training image; None if unknown

    # The scoring
    protocol: Protocol
    metric_version: str
    selection_split: Split | None  # the split that picked the checkpoint; None if nothing was picked
    selection_metric: str | None

    # Weights and environment
    weights_sha256: str | None  # of the evaluated weights
    predictions_sha256: str | None  # of masks from outside; None if the suite made them
    init_weights: dict[str, str]  # part -> "random", a hub id, or a local file's sha256
    git_sha: str | None
    git_dirty: bool | None  # of any attempt or of the scoring; changes under leaderboards/ do not count
    attempts: list[Attempt]  # every start of the training, in order; empty if it did not happen in this suite
    versions: dict[str, str]  # of the scoring; package -> version: rrsis_bench, python, torch, cuda, ...
    device: str  # "cpu", "cuda"
    device_name: str | None  # the GPU's or processor's name
    world_size: int
    precision: str
    started_utc: str  # ISO 8601
    wall_s: float | None  # training and this evaluation, all attempts

    # Results
    overall: ScoreSet | None = None  # the whole split; None if nothing was scored
    control: dict[str, ControlScores] = field(default_factory=dict)  # name of the control -> scores
    per_category: dict[str, ScoreSet] = field(default_factory=dict)
    per_size: dict[str, dict[str, ScoreSet]] = field(default_factory=dict)  # scheme -> class -> scores
    per_language: dict[str, ScoreSet] = field(default_factory=dict)  # empty if there is one language
    per_target: dict[str, ScoreSet] = field(default_factory=dict)  # class in TARGET_CLASSES; empty if there is one
    efficiency: Efficiency = field(default_factory=Efficiency)
    counts: CountsFile | None = None  # None if no sample was scored
    notes: list[str] = field(default_factory=list)  # remarks for the reader of the row; shown in the tables
    dataset_card: DatasetCard | None = None  # None if the dataset's configuration has none
    rescored_from: str | None = None  # metric version of the first scoring, if the record was scored again
    schema_version: int = SCHEMA_VERSION
    probes: dict[str, ProbeScores] | None = codec.optional()  # name of the probe -> figures; None if none was asked for
    trained_on: list[str] | None = codec.optional()  # data that the weights saw before or elsewhere, as declared
    strata: StrataFile | None = codec.optional()  # None: the record is older, or the training expressions are unknown
    per_stratum: dict[str, dict[str, ScoreSet]] | None = codec.optional()  # stratum -> class -> scores

    @property
    def machine(self) -> str:
        """The processor or GPU of the training, without its number of cores; that of the scoring if unknown."""
        last = self.attempts[-1] if self.attempts else self
        return (last.device_name or last.device).partition(" (")[0]

    def value(self, metric: str) -> float | None:
        """Return a metric over the whole split; None if it was not measured."""
        return None if self.overall is None else self.overall.value(metric)
