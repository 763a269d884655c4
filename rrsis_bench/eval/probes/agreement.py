"""Agreement: several expressions of one target must give one mask. Takes no prediction of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np

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
    mean,
)


@PROBES.add("agreement")
class Agreement(Probe):
    """Compare the predictions for all expressions of the same image and mask in the split."""

    figures = (
        Figure("agreement", "Agreement", "IoU of the predictions for two expressions of one target", "higher"),
        Figure("worst_miou", "Worst of k", "mIoU of the worst expression of each target", "higher"),
        Figure("mean_miou", "Mean of k", "mIoU over the expressions of each target", "higher"),
    )

    def cases(self, subject: Subject) -> Iterator[Case | Refused]:
        """See `Probe`. One case per target that has several expressions."""
        images: dict[str, list[int]] = {}
        for index, sample in enumerate(subject.samples):
            images.setdefault(sample.image_id, []).append(index)
        found = False
        for indices in images.values():
            targets: dict[bytes, list[int]] = {}
            for index in indices if len(indices) > 1 else ():
                mask_HW = subject.samples[index].read_mask()
                if mask_HW.any():
                    key = hashlib.sha256(repr(mask_HW.shape).encode() + np.packbits(mask_HW).tobytes()).digest()
                    targets.setdefault(key, []).append(index)
            several = [members for members in targets.values() if len(members) > 1]
            for members in several:
                found = True
                texts = {subject.samples[index].expression: index for index in members}
                if len(texts) == 1:
                    yield Refused(members[0], "the same words twice")
                    continue
                yield Case(members[0], tuple(Question(index, text) for text, index in texts.items()))
        if not found:
            raise NotApplicable("no target of the split has several expressions")

    def measure(self, case: Case, answers: Answers) -> Mapping[str, Fraction]:  # noqa: ARG002
        """See `Probe`."""
        masks = answers.masks
        pairs = [iou(one, two) for place, one in enumerate(masks) for two in masks[place + 1 :]]
        scores = [iou(mask, answers.target) for mask in masks]
        return {"agreement": mean(pairs), "worst_miou": min(scores), "mean_miou": mean(scores)}
