"""Absent object: the sentence names a category that the image does not have, so the mask must be empty."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated

import numpy as np

from rrsis_bench.config.entries import option
from rrsis_bench.data.text.categories import CHINESE_NAMES
from rrsis_bench.data.text.lexicon import spelt_out
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
)


@PROBES.add("absent")
class Absent(Probe):
    """Name a category of the split that is not annotated in the image: once per image, all categories in turn."""

    figures = (
        Figure("false_positives", "False positives", "share of images with any predicted pixel", "lower"),
        Figure("area", "Area", "share of the image that is predicted", "lower"),
    )

    def __init__(
        self,
        *,
        per_image: Annotated[int, option("Absent categories per image.", at_least=1)] = 1,
        complete: Annotated[
            bool,
            option("Every object of the dataset's categories is annotated, so that no other one is in the image."),
        ] = False,
    ):
        self.per_image, self.complete = per_image, complete

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`. Groups: the absent category."""
        seen = {sample.category for sample in subject.samples}
        categories = [name for name in subject.categories if name in seen]
        if len(categories) < 2:
            raise NotApplicable("the samples of the split have no categories")
        if subject.scenes is None and not self.complete:
            self.notes = ("absent: the category is not annotated in the image, which may show it all the same",)
        members: dict[str, list[int]] = {}
        for index, sample in enumerate(subject.samples):
            members.setdefault(sample.image_id, []).append(index)
        for image, indices in members.items():
            index = indices[0]
            present = {subject.samples[i].category for i in indices}
            if subject.scenes is not None:
                present |= subject.scenes.present(index)
            missing = [name for name in categories if name not in present]
            if not missing:
                yield Refused(index, "the image has all categories")
                continue
            start = zlib.crc32(image.encode()) % len(missing)
            for category in [*missing[start:], *missing[:start]][: self.per_image]:
                text = named(category, subject.samples[index].language)
                if text is None:
                    yield Refused(index, "no Chinese name", category)
                else:
                    yield Case(index, (Question(index, text),), (category,))

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        (mask,) = answers.masks
        area = int(np.count_nonzero(mask))
        return {"false_positives": Fraction(int(area > 0)), "area": Fraction(area, mask.size)}


def named(category: str, language: str) -> str | None:
    """Return an expression that names a category and no more; None if it has no name in that language."""
    words = " ".join(spelt_out(category))
    return CHINESE_NAMES.get(words) if language == "zh" else f"the {words}"
