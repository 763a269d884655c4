"""Answers that need no model: how far a scene can be understood from the noun alone."""

from __future__ import annotations

import numpy as np

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
