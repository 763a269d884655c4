"""Paraphrase and typing errors: the meaning stays, so the mask must stay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated

from rrsis_bench.config.entries import option
from rrsis_bench.data.text.categories import table_of
from rrsis_bench.data.text.reword import Aliases, paraphrases, typos
from rrsis_bench.eval.probes.probe import PROBES, Answers, Case, Figure, Probe, Question, Refused, Subject, iou, mean
from rrsis_bench.interfaces import Sample


class Rewording(Probe):
    """Ask the same in other words: the mean and the worst of the rewordings of each sample."""

    figures = (
        Figure("worst_miou", "Worst of k", "mIoU of the worst rewording of each sample", "higher"),
        Figure("mean_miou", "Mean of k", "mIoU over the rewordings of each sample", "higher"),
        Figure("given_miou", "As given", "mIoU of the same samples with their own expression"),
        Figure("agreement", "Agreement", "IoU of the predictions for the rewording and for the expression", "higher"),
    )
    why_not: str

    @abstractmethod
    def rewordings(self, sample: Sample, aliases: Aliases) -> Sequence[str]:
        """Return other expressions of the same meaning."""

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`."""
        aliases = table_of(subject.categories)
        for index, sample in enumerate(subject.samples):
            texts = self.rewordings(sample, aliases)
            if texts:
                yield Case(index, tuple(Question(index, text) for text in texts))
            else:
                yield Refused(index, self.why_not)

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        scores = [iou(mask, answers.target) for mask in answers.masks]
        return {
            "worst_miou": min(scores),
            "mean_miou": mean(scores),
            "given_miou": iou(answers.given, answers.target),
            "agreement": mean([iou(mask, answers.given) for mask in answers.masks]),
        }


@PROBES.add("paraphrase")
class Paraphrase(Rewording):
    """Reword by rules: article, synonym, order of phrases, "located"."""

    why_not = "no rule applies"

    def rewordings(self, sample: Sample, aliases: Aliases) -> Sequence[str]:
        """See `Rewording`."""
        return list(paraphrases(sample.expression, sample.language, aliases).values())


@PROBES.add("typo")
class Typo(Rewording):
    """Make one typing error in a word."""

    why_not = "no word for a typing error"

    def __init__(self, *, k: Annotated[int, option("Typing errors per expression, one at a time.", at_least=1)] = 3):
        self.k = k

    def rewordings(self, sample: Sample, aliases: Aliases) -> Sequence[str]:  # noqa: ARG002
        """See `Rewording`."""
        return typos(sample.expression, sample.language, self.k)
