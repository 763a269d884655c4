"""What a probe is made of: questions to the model, and the comparison of its answers.

A probe is a class that is added to `PROBES` under its name. Its keyword-only arguments are its options. It has

- ``figures``: what it measures, the most important one first;
- ``cases(subject)``: yields for each sample what to ask the model, or why the sample cannot be used;
- ``measure(case, answers)``: returns the figures of one case as exact fractions of pixels.

A figure of the record is the mean over cases in percent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol

import numpy as np

from rrsis_bench.config.entries import Entries
from rrsis_bench.data.pixels.rle import Rle
from rrsis_bench.data.text.exchange import Turn
from rrsis_bench.eval.counts import Array
from rrsis_bench.interfaces import Sample


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a probe measures, in percent.

    Attributes:
        name: key in the record.
        label: short name for tables.
        meaning: one sentence.
        better: ``"higher"``, ``"lower"``, or empty for a number that the others are read beside.
    """

    name: str
    label: str
    meaning: str
    better: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One input that the model has to answer with a mask.

    Attributes:
        index: the sample whose image is shown.
        expression: the sentence.
        turn: of the image; None: it is shown as it is.
    """

    index: int
    expression: str
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    Attributes:
        index: the sample.
        questions: what the model is asked.
        groups: names of the groups that the case counts in, besides the whole.
        truth: the right answer if it is not the sample's target.
    """

    index: int
    questions: tuple[Question, ...]
    groups: tuple[str, ...] = ()
    truth: Rle | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A sample that a probe cannot use.

    Attributes:
        index: the sample.
        reason: one of few, for the counts.
        detail: such as the word; for the run's file.
    """

    index: int
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The model's masks for one case: bool (H, W) at the size that the protocol scores.

    Attributes:
        target: of the sample.
        given: prediction for the sample's own image and expression.
        masks: one per question, turned back if the image was turned.
        truth: of `Case.truth`; None if it has none.
    """

    target: Array
    given: Array
    masks: tuple[Array, ...]
    truth: Array | None = None


class KnownScenes(Protocol):
    """What is known about the images of a split beyond its samples: synthetic scenes know every object."""

    def present(self, index: int) -> frozenset[str]:
        """Return the categories of all objects in the image of sample `index`."""

    def changed(self, index: int, kind: str) -> tuple[str, Rle] | None:
        """Return a changed expression about the same image, with its mask; None if there is no sure one.

        Args:
            index: the sample.
            kind: ``"negation"`` or ``"attribute_swap"``.
        """


@dataclass(frozen=True, slots=True)
class Subject:
    """The split that is probed.

    Attributes:
        samples: in order.
        categories: of the dataset.
        scenes: knowledge about the images; None for real data.
    """

    samples: Sequence[Sample]
    categories: tuple[str, ...] = ()
    scenes: KnownScenes | None = None


class NotApplicable(Exception):
    """A probe needs something that the dataset does not have; the message says what."""


class Probe(ABC):
    """See the module."""

    figures: ClassVar[tuple[Figure, ...]]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """Yield what to ask.

        Raises:
            NotApplicable: the dataset lacks what the probe needs.
        """

    @abstractmethod
    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:
        """Return the figures of one case, each between 0 and 1; a figure may be left out."""


PROBES = Entries[Probe]("probes")


def iou(one: Array, two: Array) -> Fraction:
    """Return the intersection over union of two bool masks; 1 if both are empty."""
    union = int(np.count_nonzero(one | two))
    return Fraction(int(np.count_nonzero(one & two)), union) if union else Fraction(1)


def share_outside(mask: Array, region: Array) -> Fraction:
    """Return the share of `mask` outside of `region`; 1 for an empty mask."""
    area = int(np.count_nonzero(mask))
    return Fraction(int(np.count_nonzero(mask & ~region)), area) if area else Fraction(1)


def mean(values: Sequence[Fraction]) -> Fraction:
    """Return the exact mean."""
    return sum(values, Fraction(0)) / len(values)


_TURN: dict[Turn | None, Callable[[Array], Array]] = {
    None: lambda array: array,
    "mirror": lambda array: array[:, ::-1],
    "upside": lambda array: array[::-1],
    "quarter": lambda array: np.rot90(array),
}


def turned(array: Array, turn: Turn | None) -> Array:
    """Return an image (H, W, 3) or a mask (H, W) turned as `rrsis_bench.data.text.exchange` says."""
    return np.ascontiguousarray(_TURN[turn](array))


def turned_back(array: Array, turn: Turn | None) -> Array:
    """Undo `turned`."""
    return np.ascontiguousarray(np.rot90(array, -1) if turn == "quarter" else _TURN[turn](array))
