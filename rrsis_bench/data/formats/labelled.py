"""Fixed subsets of a training split, for tables of scores over the number of labelled samples.

``data.options.labelled`` of any format takes a share of train. The samples of each category are drawn in the order of
a hash of their ids. So a subset depends on the ids alone, the smaller ones are within the larger ones, and the shares
of the categories stay as they are.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rrsis_bench.data.formats.index import Row
from rrsis_bench.errors import UserError

OPTION = "labelled"
SHARES = (0.1, 0.3, 0.5)
"""The shares that can be asked for: those of the weakly supervised papers of the field."""

SEED = 0
"""Part of the hash. Another number gives other subsets."""


def share_of(options: Mapping[str, Any]) -> float | None:
    """Return the share of train in ``data.options``; None for the whole split.

    Raises:
        UserError: another value than one of `SHARES`.
    """
    share = options.get(OPTION)
    if share is None:
        return None
    if isinstance(share, bool) or share not in SHARES:
        raise UserError(f"data.options.{OPTION}={share!r} is not one of: {', '.join(map(str, SHARES))}.")
    return float(share)


def chosen(rows: Sequence[Row], share: float) -> list[int]:
    """Return the places of the samples of a subset, in the order of the split; at least one per category.

    Args:
        rows: the training split.
        share: one of `SHARES`.
    """
    of_category: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    for place, row in enumerate(rows):
        key = hashlib.sha256(f"{OPTION} {SEED} {row.sample_id}".encode()).digest()
        of_category[row.category or ""].append((key, place))
    percent = round(100 * share)
    found: list[int] = []
    for members in of_category.values():
        n = max(1, (percent * len(members) + 50) // 100)
        found += [place for _, place in sorted(members)[:n]]
    return sorted(found)
