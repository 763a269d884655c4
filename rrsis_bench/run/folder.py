"""The folder of a run: configuration, vocabulary, checkpoints, predictions, record.

A folder holds ``config.yaml``, ``manifest.json``, ``vocab.txt`` (with ``text.tokenizer=wordpiece`` or ``words``),
``categories.json``, ``checkpoints/``, ``predictions/<split>.jsonl``,
``probes/<split>.csv.gz``, ``events.jsonl``, ``report.html`` and ``record/``,
which has the layout of the leaderboards folder, with one record per scored split. While an evaluation is not finished,
``evaluation/`` holds its scored batches. Only this module reads or writes these names.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from rrsis_bench import codec
from rrsis_bench.config.schema import SPLITS, Config, Split
from rrsis_bench.errors import UserError, reason
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.files import write_text
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Attempt, Record
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.sources import changed_sources
from rrsis_bench.train import checkpoint

CONFIG, MANIFEST, CHECKPOINTS = "config.yaml", "manifest.json", "checkpoints"


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Return names joined by commas, at most `most` of them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Progress and provenance of a run, in ``manifest.json``.

    Attributes:
        run_id: name of the run.
        status: ``"running"`` or how the run ended.
        train_hash: identifies the training.
        eval_hash: identifies the training and the scoring.
        fingerprint: content hash of the dataset.
        limit: splits that were not whole: split -> samples.
        variant: fields in which the run differs from its model's default.
        git_sha: commit that was executed.
        git_dirty: whether it had local changes.
        best: folder name of the selected checkpoint; None before the end.
        weights_sha256: of that checkpoint.
        train_s: seconds of training, all attempts.
        wall_s: seconds of all processes that worked on the run; while it runs, of the earlier ones.
        started_utc: start of the last process.
        reason: why the run is not finished; None while it runs or if it is.
        attempts: every start of the training whose work is in the weights.
        sources: module -> sha256 of its file, as loaded by the training.
    """

    run_id: str
    status: str
    train_hash: str
    eval_hash: str
    fingerprint: str | None
    limit: dict[str, int]
    variant: tuple[str, ...]
    git_sha: str | None
    git_dirty: bool | None
    best: str | None = None
    weights_sha256: str | None = None
    train_s: float | None = None
    wall_s: float = 0.0
    started_utc: str | None = None
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()
    sources: dict[str, str] = dataclasses.field(default_factory=dict)


class RunFolder:
    """The folder of one run.

    Attributes:
        path: the folder.
        named: the checkpoint folder that was opened; None if the run folder itself was.
    """

    def __init__(self, path: Path, named: Path | None = None):
        self.path, self.named = path, named

    @classmethod
    def create(cls, plan: RunPlan, *, attempts: Sequence[Attempt] = ()) -> RunFolder:
        """Create the folder of a planned run, or continue in it; writes the configuration and the manifest.

        Args:
            plan: the run.
            attempts: starts of the training whose work is in the weights, the present one included.
        """
        run = cls(Path(plan.config.runs) / plan.run_id)
        write_text(run.path / CONFIG, yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True))
        run._write(
            Manifest(
                plan.run_id, "running", plan.train_hash, plan.eval_hash, plan.data.fingerprint, plan.data.limit,
                plan.variant, *plan.git, wall_s=plan.earlier_s, started_utc=plan.started.isoformat(timespec="seconds"),
                attempts=tuple(attempts), sources=plan.sources,
            )
        )  # fmt: skip
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run by its folder, or by the folder of one of its checkpoints.

        Raises:
            UserError: the folder is not part of a run.
        """
        path = Path(path).expanduser()
        is_checkpoint = path.parent.name == CHECKPOINTS and path.is_dir()
        run = cls(path.parent.parent, path) if is_checkpoint else cls(path)
        if not (run.path / CONFIG).is_file():
            raise UserError(
                f"{run.path} is not the folder of a run: it has no {CONFIG}. Runs are in runs/<run id>, unless runs= "
                "named another folder."
            )
        return run

    @classmethod
    def locate(cls, name: str | Path, runs: str | Path) -> Path:
        """Return the folder that a person means: a path, or the id of a run in the folder `runs`.

        A name that is neither is returned as it is, for a message of the caller.
        """
        path = Path(name).expanduser()
        inside = Path(runs) / path
        return inside if not cls.is_run(path) and cls.is_run(inside) else path

    @staticmethod
    def is_run(path: Path) -> bool:
        """Return whether `open` would open `path`."""
        above = path.parent.parent if path.parent.name == CHECKPOINTS else path
        return any((folder / CONFIG).is_file() for folder in (path, above))

    @cached_property
    def config(self) -> Config:
        """The configuration of the run; UserError if the file does not fit."""
        file = self.path / CONFIG
        try:
            composed = codec.parse_yaml(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {reason(error)}.") from error
        return Config.parse(composed, str(file))

    @property
    def manifest(self) -> Manifest:
        """Progress and provenance of the run; UserError if the file does not fit."""
        file = self.path / MANIFEST
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
        return codec.loads(Manifest, text, str(file), defaults=True)

    @property
    def status(self) -> str:
        """How far the run came: ``"missing"``, ``"running"``, or how it ended."""
        return self.manifest.status if (self.path / MANIFEST).is_file() else "missing"

    def attempts_to_continue(self, plan: RunPlan) -> tuple[Attempt, ...]:
        """Return the earlier attempts whose checkpoints the planned training would continue.

        Raises:
            UserError: a source that an earlier attempt executed has changed since.
        """
        if self.status == "missing" or not checkpoint.paths(self.path / CHECKPOINTS):
            return ()
        manifest = self.manifest
        changed = changed_sources(manifest.sources)
        if changed and manifest.train_hash == plan.train_hash:
            raise UserError(
                f"{self.path} cannot be continued: the code has changed since ({shortened(changed)}). "
                "Restore these files, or start again with force=true."
            )
        return manifest.attempts

    def spent_s(self, train_hash: str) -> float:
        """Return the seconds that earlier processes spent on the run; 0 if the folder belongs to another training.

        A killed process counts until it last wrote a file.
        """
        if self.status == "missing" or (manifest := self.manifest).train_hash != train_hash:
            return 0.0
        if manifest.status != "running" or manifest.started_utc is None:
            return manifest.wall_s
        files = [self.path, *self.path.glob("*"), *self.path.glob("checkpoints/*"), *self.path.glob("evaluation/*")]
        last = max(path.stat().st_mtime for path in files if path.exists())
        return manifest.wall_s + max(0.0, last - datetime.fromisoformat(manifest.started_utc).timestamp())

    def is_finished(self, plan: RunPlan) -> bool:
        """Return whether the planned run was trained and recorded here."""
        return self.status == "finished" and self.manifest.train_hash == plan.train_hash

    def update(self, status: str, **values: Any) -> None:
        """Change the manifest."""
        self._write(dataclasses.replace(self.manifest, status=status, **values))

    def _write(self, manifest: Manifest) -> None:
        write_text(self.path / MANIFEST, codec.dumps(manifest))

    @property
    def best(self) -> Path:
        """The folder of the selected checkpoint; UserError if the run is not finished."""
        name = self.manifest.best
        if name is None:
            raise UserError(
                f"The run in {self.path} has selected no checkpoint (status {self.status}). Train it to the end, or "
                f"name one of the folders in {self.path / CHECKPOINTS}."
            )
        return self.path / CHECKPOINTS / name

    @property
    def weights(self) -> Path:
        """The checkpoint that was opened, or else the selected one."""
        return self.named or self.best

    @property
    def vocabulary(self) -> Path:
        """The vocabulary file of a run with ``text.tokenizer=wordpiece`` or ``words``."""
        return self.path / "vocab.txt"

    @property
    def categories(self) -> tuple[str, ...]:
        """The category names of the training data, which phrase masks are found by; UserError if they are missing."""
        file = self.path / "categories.json"
        try:
            return tuple(codec.parse_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file} cannot be read: {error}. Restore it, or train the run again.") from error

    def write_categories(self, names: Sequence[str]) -> None:
        """Store the category names of the training data."""
        write_text(self.path / "categories.json", json.dumps(list(names), ensure_ascii=False))

    def predictions(self, split: str) -> Path:
        """Return the file of the predicted masks of a split, which ``predictions=save`` writes."""
        return self.path / "predictions" / f"{split}.jsonl"

    def probes(self, split: str) -> Path:
        """Return the file of every comparison of the probes on a split."""
        return self.path / "probes" / f"{split}.csv.gz"

    @property
    def evaluation(self) -> Path:
        """The folder of scored batches; it exists while an evaluation is not finished."""
        return self.path / "evaluation"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def record_paths(self) -> dict[Split, Path]:
        """Scored split -> the run's own copy of its record, in the order of ``splits``; empty if there is none."""
        paths = sorted((self.path / "record" / store.RECORDS).glob("*/*/*.json"))
        found = {store.read(path).split: path for path in paths}
        order = dict.fromkeys([*self.config.splits, *SPLITS])
        return {split: found[split] for split in order if split in found}

    @property
    def record_path(self) -> Path:
        """The run's own copy of its record on its first split; UserError if it has none."""
        found = self.record_paths
        if not found:
            raise UserError(f"{self.path} has no record: its status is '{self.status}'. Train the run to the end.")
        return next(iter(found.values()))

    @property
    def record(self) -> Record:
        """The run's own copy of its record on its first split; UserError if it has none."""
        return store.read(self.record_path)

    @property
    def counts(self) -> CountsTable:
        """The integers of `record`; UserError if there is no record."""
        return store.read_counts(self.record_path)

    def write_record(self, record: Record, table: CountsTable) -> None:
        """Store the record here before it is published, so that no result is lost; drop the scored batches.

        The first record stays if the same scoring gives the same integers again and no control or probe that it lacks.
        """
        path = store.record_path(self.path / "record", record.data, record.model, record.run_id)
        first = store.read(path) if path.is_file() else None
        repeated = first is not None and first.eval_hash == record.eval_hash and store.read_counts(path) == table
        if first is None or not repeated or _lacks(first, record):
            store.write(self.path / "record", record, table, force=True)
        shutil.rmtree(self.evaluation, ignore_errors=True)


def _lacks(first: Record, record: Record) -> bool:
    """Return whether a record has language controls or probes that the first record of the run has not."""
    return bool(
        record.control.keys() - first.control.keys() or (record.probes or {}).keys() - (first.probes or {}).keys()
    )
