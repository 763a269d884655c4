"""Negation and attribute swap: a changed sentence whose mask is known, since synthetic scenes know all objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import ClassVar

from rrsis_bench.eval.probes.probe import (
    PROBES,
    Answers,
    Case,
    Figure,
    NotApplicable,
    Probe,
    Question,
    Refused,
    Subject,
    iou,
)


class KnownTruth(Probe):
    """Change the sentence and its truth."""

    figures = (
        Figure("new_miou", "mIoU, new truth", "mIoU with the changed sentence, against its own truth", "higher"),
        Figure("old_miou", "mIoU, old target", "mIoU with the changed sentence, against the old target", "lower"),
        Figure("given_miou", "As given", "mIoU of the same samples with their own expression"),
    )
    kind: ClassVar[str]

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`."""
        if subject.scenes is None:
            raise NotApplicable("the truth of a changed sentence is known for synthetic scenes only")
        for index in range(len(subject.samples)):
            changed = subject.scenes.changed(index, self.kind)
            if changed is None:
                yield Refused(index, "no change with a sure truth")
            else:
                text, truth = changed
                yield Case(index, (Question(index, text),), truth=truth)

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        (mask,) = answers.masks
        assert answers.truth is not None
        return {
            "new_miou": iou(mask, answers.truth),
            "old_miou": iou(mask, answers.target),
            "given_miou": iou(answers.given, answers.target),
        }


@PROBES.add("negation")
class Negation(KnownTruth):
    """Negate the attribute: "the red ship" -> "all the ships that are not red"."""

    kind = "negation"


@PROBES.add("attribute_swap")
class AttributeSwap(KnownTruth):
    """Exchange one attribute (colour, place, size, side, rank, relation) for one that another object has."""

    kind = "attribute_swap"
