"""Ask a model the questions of all probes in one pass over the images, and compare its answers.

Questions of several probes about one image follow each other, so that an `ImageFirstSegmenter` encodes each image (and
each turned image) once for all of them. An input that two probes share is predicted once. One that the split itself has
is not predicted again.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from rrsis_bench.config.entries import Entries
from rrsis_bench.csv_files import write_rows
from rrsis_bench.data.pixels import rle
from rrsis_bench.errors import UserError
from rrsis_bench.eval import bootstrap, probes
from rrsis_bench.eval.counts import Array
from rrsis_bench.eval.probes.probe import (
    PROBES,
    Answers,
    Case,
    Figure,
    KnownScenes,
    NotApplicable,
    Probe,
    Question,
    Refused,
    Subject,
    turned,
    turned_back,
)
from rrsis_bench.eval.scores import ProbeGroup, ProbeScores, Score
from rrsis_bench.interfaces import ReferringDataset, Sample

ENTRY_POINT_GROUP = "rrsis_bench.probes"
Entry = str | Mapping[str, Any]
Masks = Mapping[str, rle.Rle]
_Key = tuple[str, str | None, str]  # image, turn, expression


@cache
def load() -> Entries[Probe]:
    """Import all probes and return them: the modules beside `probe`, and those of installed packages."""
    for found in pkgutil.iter_modules(probes.__path__):
        importlib.import_module(f"{probes.__name__}.{found.name}")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        point.load()
    return PROBES


def bind(entries: Sequence[Entry]) -> dict[str, Probe]:
    """Return the probes of ``probes`` by name, in order.

    Raises:
        UserError: an unknown name, a wrong option, or a name twice.
    """
    if not entries:
        return {}
    known = load()
    full = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    made = [make() for make in known.bind_all(full)]
    names = [str(entry["name"]) for entry in full]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UserError(f"probes has more than one entry '{twice[0]}'. Remove all but one.")
    return dict(zip(names, made, strict=True))


def figures_of(name: str) -> tuple[Figure, ...]:
    """Return the figures of a probe; none if it is not installed here."""
    known = load()
    return known.target(name).figures if name in known else ()


def summary_of(name: str) -> str:
    """Return the first sentence of a probe's documentation; empty if it is not installed here."""
    known = load()
    return (known.target(name).__doc__ or "").partition("\n")[0] if name in known else ""


@dataclass(frozen=True, slots=True)
class CaseFigure:
    """One figure of one case, or the reason why a sample was refused; a line of the run's file of probes."""

    probe: str
    sample_id: str
    image_id: str
    groups: tuple[str, ...]
    figure: str
    value: Fraction | None
    refused: str = ""


def to_csv_gz(lines: Iterable[CaseFigure]) -> bytes:
    """Return the comparisons as gzip-compressed CSV (UTF-8); ``value`` is an exact fraction of pixels."""
    columns = ("probe", "sample_id", "image_id", "groups", "figure", "value", "refused")
    rows = [
        (line.probe, line.sample_id, line.image_id, "; ".join(line.groups), line.figure,
         "" if line.value is None else str(line.value), line.refused)
        for line in lines
    ]  # fmt: skip
    return gzip.compress(write_rows([columns, *rows]).encode(), mtime=0)


class Inquiry(ReferringDataset):
    """All questions of some probes about a split, as a dataset to be predicted.

    Args:
        dataset: the split.
        chosen: name -> probe.
        scenes: what is known beyond the samples.

    Attributes:
        cases: probe -> its cases.
        skipped: probe -> why the dataset does not allow it.
    """

    def __init__(self, dataset: ReferringDataset, chosen: Mapping[str, Probe], scenes: KnownScenes | None = None):
        self.name, self.split, self.category_names = dataset.name, dataset.split, dataset.category_names
        self.samples = [dataset[index] for index in range(len(dataset))]
        self._probes = dict(chosen)
        self.cases: dict[str, list[Case]] = {}
        self.refused: dict[str, list[Refused]] = {}
        self.skipped: dict[str, str] = {}
        subject = Subject(self.samples, tuple(dataset.category_names), scenes)
        for name, probe in chosen.items():
            try:
                found = list(probe.cases(subject))
            except NotApplicable as why:
                self.skipped[name] = str(why)
                continue
            self.cases[name] = [entry for entry in found if isinstance(entry, Case)]
            self.refused[name] = [entry for entry in found if isinstance(entry, Refused)]
        self._own = {
            self._key(Question(i, sample.expression)): sample.sample_id for i, sample in enumerate(self.samples)
        }
        asked: dict[_Key, Question] = {}
        for case in (case for cases in self.cases.values() for case in cases):
            for question in case.questions:
                asked.setdefault(self._key(question), question)
        first: dict[str, int] = {}
        for index, sample in enumerate(self.samples):
            first.setdefault(sample.image_id, index)
        new = [(key, question) for key, question in asked.items() if key not in self._own]
        new.sort(key=lambda entry: (first[entry[0][0]], entry[0][1] or ""))
        self._questions = [question for _, question in new]
        self._ids = {key: f"question {number}" for number, (key, _) in enumerate(new)}

    def _key(self, question: Question) -> _Key:
        return self.samples[question.index].image_id, question.turn, question.expression

    def __len__(self) -> int:
        """Number of predictions that the probes need beyond those of the split."""
        return len(self._questions)

    def __getitem__(self, index: int) -> Sample:
        """Return question `index` as a sample; its mask is the target of the sample that it is about."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        question = self._questions[index]
        sample = self.samples[question.index]
        changed = replace(
            sample, sample_id=self._ids[self._key(question)], expression=question.expression, category=None,
            n_targets=None,
        )  # fmt: skip
        if question.turn is None:
            return changed
        return replace(
            changed, image_id=f"{sample.image_id} {question.turn}", image_path=None, read_rle=None,
            read_image=_Turned(sample.read_image, question.turn), read_mask=_Turned(sample.read_mask, question.turn),
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """sha256 (hex) of all questions, for the progress of an interrupted pass."""
        values = [[self.samples[q.index].sample_id, q.expression, q.turn] for q in self._questions]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def compare(self, given: Masks, answered: Masks) -> tuple[dict[str, ProbeScores], list[CaseFigure]]:
        """Compare the answers.

        Args:
            given: sample id -> the prediction for the split's own sample, at the size that the protocol scores.
            answered: sample id of this dataset -> prediction.

        Returns:
            The figures of each probe for the record, and every case for the run's file.
        """
        scores: dict[str, ProbeScores] = {}
        lines: list[CaseFigure] = []
        for name, cases in self.cases.items():
            own = [line for case in cases for line in self._measured(name, case, given, answered)]
            needed = {self._key(question) for case in cases for question in case.questions} - self._own.keys()
            refused = Counter(entry.reason for entry in self.refused[name])
            scores[name] = _scores(self._probes[name], own, len(cases), dict(refused), len(needed))
            lines += own + [self._refusal(name, entry) for entry in self.refused[name]]
        return scores, lines

    def _measured(self, name: str, case: Case, given: Masks, answered: Masks) -> Iterable[CaseFigure]:
        sample = self.samples[case.index]
        own_HW = rle.decode(given[sample.sample_id])
        masks = []
        for question in case.questions:
            key = self._key(question)
            found = given[self._own[key]] if key in self._own else answered[self._ids[key]]
            masks.append(turned_back(rle.decode(found), question.turn))
        answers = Answers(
            target=_at(sample.read_mask(), own_HW.shape),
            given=own_HW,
            masks=tuple(masks),
            truth=None if case.truth is None else _at(rle.decode(case.truth), own_HW.shape),
        )
        for figure, value in self._probes[name].measure(case, answers).items():
            yield CaseFigure(name, sample.sample_id, sample.image_id, case.groups, figure, value)

    def _refusal(self, name: str, entry: Refused) -> CaseFigure:
        sample = self.samples[entry.index]
        why = f"{entry.reason}: {entry.detail}" if entry.detail else entry.reason
        return CaseFigure(name, sample.sample_id, sample.image_id, (), "", None, why)


class _Turned:
    """Reads an image or a mask and turns it. Picklable."""

    def __init__(self, read: Any, turn: Any):
        self._read, self._turn = read, turn

    def __call__(self) -> Array:
        return turned(self._read(), self._turn)


def _at(mask_HW: Array, shape: tuple[int, ...]) -> Array:
    """Return a bool mask at the size of a prediction: its own, or the model's input size as the protocol resizes it."""
    return mask_HW if mask_HW.shape == shape else rle.resize_nearest(mask_HW, shape[0]).astype(bool)


def _scores(
    probe: Probe, lines: Sequence[CaseFigure], n: int, refused: dict[str, int], predictions: int
) -> ProbeScores:
    names = list(dict.fromkeys(group for line in lines for group in line.groups))
    grouped = {}
    for group in names:
        members = [line for line in lines if group in line.groups]
        figures = _means(probe, members)
        grouped[group] = ProbeGroup(max(Counter(line.figure for line in members).values()), figures)
    return ProbeScores(n, refused, predictions, _means(probe, lines), grouped, list(probe.notes))


def _means(probe: Probe, lines: Sequence[CaseFigure]) -> dict[str, Score]:
    """Return figure -> mean over cases in percent, with an interval over images."""
    found = {}
    for name in (figure.name for figure in probe.figures):
        members = [line for line in lines if line.figure == name and line.value is not None]
        if not members:
            continue
        values = [line.value for line in members if line.value is not None]
        value = 100 * float(sum(values, Fraction(0)) / len(values))
        ratio = np.array([float(part) for part in values]), np.ones(len(values))
        bounds = bootstrap.intervals({name: ratio}, [line.image_id for line in members])[name]
        low, high = (None, None) if bounds is None else (100 * bounds[0], 100 * bounds[1])
        found[name] = Score(value, low, high)
    return found
