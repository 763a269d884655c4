"""Synthetic scenes as a dataset in memory, and readers of `rrsis_bench.synthetic.oracle` that answer the probes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from rrsis_bench.data.pixels import rle
from rrsis_bench.eval.probing import Inquiry, bind
from rrsis_bench.interfaces import ReferringDataset, Sample
from rrsis_bench.synthetic import DEFAULT_SPEC, SceneSpec
from rrsis_bench.synthetic.known import SyntheticScenes
from rrsis_bench.synthetic.language.realise import NOUNS
from rrsis_bench.synthetic.oracle import READERS
from rrsis_bench.synthetic.scene import lay_out, union_HW

ALL = ("flip", "wrong_side", "absent", "paraphrase", "typo", "agreement", "negation", "attribute_swap")


@cache
def spec_of(language: str) -> SceneSpec:
    """Few small scenes in a language, or the suite's own data set for ``"default"``."""
    if language == "default":
        return DEFAULT_SPEC
    return SceneSpec(0, 0, 14, size=96, expressions_per_image=4, seed=3, multi_target=0.1, languages=(language,))


@cache
def scenes_of(language: str):
    """(objects, expressions) of every scene."""
    spec = spec_of(language)
    return [lay_out(spec, "test", index)[1:] for index in range(spec.test)]


class InMemory(ReferringDataset):
    """The samples of `scenes_of`; the image of scene 3 is called "3"."""

    name, split, category_names = "synthetic", "test", tuple(NOUNS)

    def __init__(self, language: str):
        self.rows = [
            (number, objects, expression)
            for number, (objects, expressions) in enumerate(scenes_of(language))
            for expression in expressions
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        number, objects, expression = self.rows[index]
        mask_HW = union_HW([objects[i] for i in expression.targets], objects[0].mask_HW.shape)
        return Sample(
            f"sample {index}", str(number), expression.text, expression.language, expression.category,
            len(expression.targets), lambda: np.zeros((*mask_HW.shape, 3), np.uint8), lambda: mask_HW,
        )  # fmt: skip


def turned_objects(objects, turn):
    """The objects of a scene whose image is turned, pixel by pixel."""
    size = objects[0].mask_HW.shape[0]
    out = []
    for item in objects:
        mask_HW = np.zeros_like(item.mask_HW)
        for row, column in zip(*np.nonzero(item.mask_HW), strict=True):
            place = {
                None: (row, column),
                "mirror": (row, size - 1 - column),
                "upside": (size - 1 - row, column),
                "quarter": (size - 1 - column, row),
            }[turn]
            mask_HW[place] = True
        x1, y1, x2, y2 = item.box
        box = {
            None: item.box,
            "mirror": (size - x2, y1, size - x1, y2),
            "upside": (x1, size - y2, x2, size - y1),
            "quarter": (y1, size - x2, y2, size - x1),
        }[turn]
        out.append(replace(item, mask_HW=mask_HW, box=box))
    return tuple(out)


@cache
def views_of_scene(language: str, number: int, turn: str | None):
    return turned_objects(scenes_of(language)[number][0], turn)


@cache
def asked(language: str, reader: str, names: tuple[str, ...] = ALL):
    """Scores of the probes, their cases, and the questions, of one reader."""
    inquiry = Inquiry(data := InMemory(language), bind(names), scenes(language))

    def answer(sample):
        number, _, turn = sample.image_id.partition(" ")
        objects = views_of_scene(language, int(number), turn or None)
        return rle.encode(READERS[reader](objects, sample.expression, sample.language))

    given = {data[index].sample_id: answer(data[index]) for index in range(len(data))}
    answered = {inquiry[index].sample_id: answer(inquiry[index]) for index in range(len(inquiry))}
    scores, cases = inquiry.compare(given, answered)
    return scores, cases, inquiry


@cache
def scenes(language: str) -> SyntheticScenes:
    data = InMemory(language)
    return SyntheticScenes(spec_of(language), "test", [data[index].expression for index in range(len(data))])
