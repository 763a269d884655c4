"""Flip consistency: a turned image with the exchanged sentence must give the turned mask. Needs no label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from rrsis_bench.data.text.exchange import TURNS, exchange
from rrsis_bench.data.text.turned import Unclear
from rrsis_bench.eval.probes.probe import PROBES, Answers, Case, Figure, Probe, Question, Refused, Subject, iou


@PROBES.add("flip")
class Flip(Probe):
    """Mirror the image left to right, top to bottom, and turn it by a quarter; exchange the side words."""

    figures = (
        Figure("consistency", "Flip IoU", "IoU of the predictions for an image and for its turned copy", "higher"),
        Figure("turned_miou", "mIoU turned", "mIoU on the turned images, against the turned targets"),
        Figure("given_miou", "mIoU as given", "mIoU of the same samples as they are"),
    )

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`. Groups: the turn, and the turn with exchanged words only."""
        for index, sample in enumerate(subject.samples):
            for turn in TURNS:
                try:
                    new = exchange(sample.expression, sample.language, turn)
                except Unclear as unclear:
                    yield Refused(index, f"{turn}: unclear word", unclear.word)
                    continue
                groups = (turn, f"{turn}, words exchanged") if new.words else (turn,)
                yield Case(index, (Question(index, new.text, turn),), groups)

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        (mask,) = answers.masks
        return {
            "consistency": iou(mask, answers.given),
            "turned_miou": iou(mask, answers.target),
            "given_miou": iou(answers.given, answers.target),
        }
