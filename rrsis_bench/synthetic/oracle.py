"""Answers that need no model: how far a scene can be understood from the noun alone, and five readers for the probes.

A reader sees the true masks of all objects, in an image that may be turned, and a sentence. `READERS` has all of them.
What the probes find in each of them follows from theory (docs/probes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rrsis_bench.synthetic.language.read import Meaning, read
from rrsis_bench.synthetic.language.semantics import NO, YES, Query, SceneObject, verdicts
from rrsis_bench.synthetic.scene import Scene, render_scene, union_HW
from rrsis_bench.synthetic.spec import SceneSpec


def category_oracle_ious(scene: Scene) -> list[float]:
    """Return, per expression, the IoU of the union of all objects of its category with its target.

    A no-target expression scores 1 when the scene has no object of the category, else 0.
    """
    out = []
    for expression in scene.expressions:
        answer_HW = union_HW([item for item in scene.objects if item.category == expression.category], scene.shape)
        target_HW = scene.target_HW(expression)
        union = int(np.count_nonzero(answer_HW | target_HW))
        out.append(int(np.count_nonzero(answer_HW & target_HW)) / union if union else 1.0)
    return out


def category_oracle_miou(spec: SceneSpec, split: str, limit: int | None = None) -> float:
    """Return the mIoU in percent of an oracle that knows the true masks but only the expression's category.

    Args:
        spec: the data set.
        split: ``"train"``, ``"val"`` or ``"test"``.
        limit: only the first scenes of the split; None for all.

    Raises:
        UserError: for a split that does not exist.
    """
    count = spec.scenes(split) if limit is None else min(limit, spec.scenes(split))
    ious = [iou for index in range(count) for iou in category_oracle_ious(render_scene(spec, split, index))]
    return 100.0 * sum(ious) / max(1, len(ious))


Reader = Callable[[Sequence[SceneObject], str, str], np.ndarray]
"""Objects, sentence and language -> bool (H, W)."""

_OTHER = {"left": "right", "right": "left"}


def understands(objects: Sequence[SceneObject], text: str, language: str) -> np.ndarray:
    """Mark the objects that the sentence denotes; none if it fits none."""
    meaning = read(text, language)
    return _marked(objects, set() if meaning is None else _meant(objects, meaning))


def reads_noun(objects: Sequence[SceneObject], text: str, language: str) -> np.ndarray:
    """Mark all objects of the category that is named."""
    meaning = read(text, language)
    return _marked(
        objects, {i for i, item in enumerate(objects) if meaning and item.category == meaning.query.category}
    )


def ignores_text(objects: Sequence[SceneObject], text: str, language: str) -> np.ndarray:  # noqa: ARG001
    """Mark the largest object, whatever the sentence is."""
    return _marked(objects, {max(range(len(objects)), key=lambda index: objects[index].area)})


def mirror_blind(objects: Sequence[SceneObject], text: str, language: str) -> np.ndarray:
    """Understand all but left and right, which mean the same to it: either side."""
    meaning = read(text, language)
    if meaning is None:
        return _marked(objects, set())
    other = replace(meaning, query=_mirrored(meaning.query))
    return _marked(objects, _meant(objects, meaning) | _meant(objects, other))


def always_left(objects: Sequence[SceneObject], text: str, language: str) -> np.ndarray:
    """Understand all but "right", which it takes for "left"."""
    meaning = read(text, language)
    if meaning is not None and "right" in repr(meaning.query):
        meaning = replace(meaning, query=_mirrored(meaning.query))
    return _marked(objects, set() if meaning is None else _meant(objects, meaning))


READERS: dict[str, Reader] = {
    "understands": understands,
    "reads the noun": reads_noun,
    "ignores the text": ignores_text,
    "mirror-blind": mirror_blind,
    "always left": always_left,
}


def _meant(objects: Sequence[SceneObject], meaning: Meaning) -> set[int]:
    judged = verdicts(meaning.query, objects)
    wanted = NO if meaning.negated else YES
    peers = [index for index, item in enumerate(objects) if item.category == meaning.query.category]
    return {index for index in peers if judged[index] == wanted}


def _marked(objects: Sequence[SceneObject], chosen: set[int]) -> np.ndarray:
    return union_HW([objects[index] for index in sorted(chosen)], objects[0].mask_HW.shape)


def _mirrored(query: Query) -> Query:
    """Return the query with left and right exchanged."""

    def other(words: str | None) -> str | None:
        return None if words is None else " ".join(_OTHER.get(word, word) for word in words.split())

    return replace(query, place=other(query.place), side=other(query.side), relation=other(query.relation))
