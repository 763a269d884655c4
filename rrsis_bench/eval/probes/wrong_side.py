"""Wrong side: left and right (or top and bottom) are exchanged in the sentence only.

The sentence is then wrong for the target, so the mask must leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated

import numpy as np

from rrsis_bench.config.entries import option
from rrsis_bench.data.text.exchange import Turn, counts, exchange
from rrsis_bench.data.text.turned import Unclear
from rrsis_bench.eval.counts import Array
from rrsis_bench.eval.probes.probe import (
    PROBES,
    Answers,
    Case,
    Figure,
    Probe,
    Question,
    Refused,
    Subject,
    iou,
    share_outside,
)

AXES: dict[str, Turn] = {"left_right": "mirror", "top_bottom": "upside"}
"""Name of the group -> the turn of the image that would make the exchanged sentence right."""


@PROBES.add("wrong_side")
class WrongSide(Probe):
    """Say the opposite side. Targets near the axis are left out: both sentences may fit them."""

    figures = (
        Figure("leaves", "Leaves target", "share of the prediction off the target, with the wrong side", "higher"),
        Figure("given_leaves", "Outside as given", "the same share with the right side", "lower"),
        Figure("same", "Same mask", "IoU of the predictions for the right and for the wrong side", "lower"),
        Figure("empty", "Empty", "share of empty predictions, with the wrong side"),
    )

    def __init__(
        self,
        *,
        margin: Annotated[
            float, option("Targets whose centre is nearer to the axis are left out; share of the image's side.",
                          at_least=0, below=0.5)
        ] = 0.1,
    ):  # fmt: skip
        self.margin = margin

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`. Groups: the axis."""
        for index, sample in enumerate(subject.samples):
            if counts(sample.expression, sample.language):
                yield Refused(index, "counts objects: the exchanged sentence may be right")
                continue
            axes, refused = [], []
            for axis, turn in AXES.items():
                try:
                    new = exchange(sample.expression, sample.language, turn)
                except Unclear as unclear:
                    refused.append(Refused(index, "unclear word", unclear.word))
                    continue
                if new.words:
                    axes.append((axis, new.text))
            yield from refused
            if not axes:
                if not refused:
                    yield Refused(index, "no side word")
                continue
            centre = _centre(sample.read_mask())
            for axis, text in axes:
                if centre is None:
                    yield Refused(index, "empty target")
                elif abs(centre[list(AXES).index(axis)] - 0.5) < self.margin:
                    yield Refused(index, "target near the axis")
                else:
                    yield Case(index, (Question(index, text),), (axis,))

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        (mask,) = answers.masks
        return {
            "leaves": share_outside(mask, answers.target),
            "given_leaves": share_outside(answers.given, answers.target),
            "same": iou(mask, answers.given),
            "empty": Fraction(int(not mask.any())),
        }


def _centre(mask_HW: Array) -> tuple[float, float] | None:
    """Return the centre of a mask's box as shares of width and height; None for an empty mask."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return None
    height, width = mask_HW.shape
    return (columns[0] + columns[-1] + 1) / 2 / width, (rows[0] + rows[-1] + 1) / 2 / height
