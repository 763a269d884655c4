"""Language controls: scores with an expression of another image, another object, or the category's name only.

A model that ignores language scores the same with another image's expression; one that reads only the noun loses
nothing when the expression is its category's name. Each control replaces the expressions of a split and keeps the
true targets; the difference to the real score is the effect of language on the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rrsis_bench.data.text.lexicon import spelt_out


def shuffled_text(image_ids: Sequence[str], expressions: Sequence[str], seed: int = 0) -> list[str | None]:
    """Give every sample an expression of another image: a derangement over images.

    The images are visited in a random cycle; each image's samples take the expressions of the next image (in turn, if
    their numbers differ). All None if the split has a single image.
    """
    members: dict[str, list[int]] = {}
    for index, image in enumerate(image_ids):
        members.setdefault(image, []).append(index)
    if len(members) < 2:
        return [None] * len(expressions)
    images = sorted(members)
    order = [images[i] for i in np.random.default_rng(seed).permutation(len(images))]
    out: list[str | None] = [None] * len(expressions)
    for image, donor in zip(order, [*order[1:], order[0]], strict=True):
        for rank, index in enumerate(members[image]):
            out[index] = expressions[members[donor][rank % len(members[donor])]]
    return out


def same_image_other_expression(image_ids: Sequence[str], expressions: Sequence[str]) -> list[str | None]:
    """Give every sample the next different expression of its own image; None if it has none."""
    members: dict[str, list[int]] = {}
    for index, image in enumerate(image_ids):
        members.setdefault(image, []).append(index)
    out: list[str | None] = [None] * len(expressions)
    for indices in members.values():
        for position, index in enumerate(indices):
            following = indices[position + 1 :] + indices[:position]
            out[index] = next((expressions[j] for j in following if expressions[j] != expressions[index]), None)
    return out


def category_only(categories: Sequence[str | None]) -> list[str | None]:
    """Reduce every expression to its category's name in plain words; None if the sample has no category."""
    return [None if category is None else " ".join(spelt_out(category)) for category in categories]
