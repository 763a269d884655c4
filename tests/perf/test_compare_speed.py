"""How long a paired comparison takes, in all groups of a dataset; `-s` shows the figures.

Held on processor seconds over up to two cores, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.eval import paired
from rrsis_bench.eval.counts import CountsTable, SampleCounts


def side(n: int, seed: int) -> paired.Samples:
    """A row of `n` samples, one picture each, of 20 categories; areas are log-normal and equal in all rows."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    area_N = np.exp(shared.normal(8, 1.5, n)).astype(int).clip(4, 600_000)
    category_N = shared.integers(20, size=n)
    found_N = (own.beta(1.2, 0.8, n) * area_N).astype(int)
    rows = [
        SampleCounts(f"s{i}", f"i{i}", f"c{category}", "en", 1, 800, 800, area, found, area + 5, found + 5, area)
        for i, (area, found, category) in enumerate(
            zip(area_N.tolist(), found_N.tolist(), category_N.tolist(), strict=True)
        )
    ]
    return paired.samples([CountsTable(rows)], Protocol("native"))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "limit_s"), [(3_481, 3), (52_472, 40)])
def test_ten_thousand_resamples(n: int, limit_s: float) -> None:
    a, b = side(n, 1), side(n, 2)
    labels = {"category": np.array(a.categories), **{scheme: np.array(names) for scheme, names in a.sizes.items()}}
    groups = {"all": np.arange(n)}
    groups |= {
        f"{scheme} {name}": np.flatnonzero(names_N == name)
        for scheme, names_N in labels.items()
        for name in np.unique(names_N).tolist()
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    found = paired.gaps(a, b, groups)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{n:,} samples, {len(groups)} groups: {wall:.1f} s, {cpu:.1f} processor seconds, {grown_mb:.0f} MB more")
    assert found["all"]["miou"].p is not None
    assert cpu < 2 * limit_s
    assert grown_mb < 1024
