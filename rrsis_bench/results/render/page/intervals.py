"""Intervals per category and size class, from the integers beside a record: what the page's bars carry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.eval import bootstrap
from rrsis_bench.eval.counts import CountsTable, SampleCounts
from rrsis_bench.eval.metrics import SIZE_CLASSES, score_samples, size_class
from rrsis_bench.results.record.schema import UNMATCHED

RESAMPLES = 1000
"""Enough for the ends of a bar; the scores themselves carry intervals of 10,000 resamples in the record."""

Path = tuple[str, ...]
"""Where a group stands in a record: ``("per_category", "ship")``, ``("per_size", "pixels", "small")``."""


def of_groups(
    table: CountsTable, protocol: Protocol, *, resamples: int = RESAMPLES
) -> dict[Path, tuple[float, float] | None]:
    """95% intervals of mIoU per category and per size class, in percent; images are resampled, all groups together.

    Args:
        table: a record's integers.
        protocol: the record's.
        resamples: bootstrap replicates.

    Returns:
        Group -> (low, high); None where the split shows fewer than two pictures.
    """
    iou_N = score_samples(table, protocol).iou_N
    labels: list[tuple[Path, Callable[[SampleCounts], str]]] = [
        (("per_category",), lambda row: UNMATCHED if row.category is None else row.category)
    ]
    labels += [(("per_size", scheme), lambda row, scheme=scheme: size_class(row, scheme)) for scheme in SIZE_CLASSES]  # type: ignore[misc]
    ratios: dict[Path, bootstrap.Ratio] = {}
    for prefix, label in labels:
        names = np.array([label(row) for row in table])
        for name in sorted(set(names.tolist())):
            member_N = names == name
            ratios[*prefix, name] = (np.where(member_N, iou_N, 0.0), member_N)
    keys = {str(index): key for index, key in enumerate(ratios)}
    bounds = bootstrap.intervals(
        {index: ratios[key] for index, key in keys.items()}, [row.image_id for row in table], resamples=resamples
    )
    found: dict[Path, tuple[float, float] | None] = {}
    for index, key in keys.items():
        pair = bounds[index]
        found[key] = (round(100.0 * pair[0], 6), round(100.0 * pair[1], 6)) if pair else None
    return found
