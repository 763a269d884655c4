"""Data loading beside the plain way, on few pictures; the figures are those of ``python -m tests.perf.perf_data``."""

from __future__ import annotations

import pytest

from tests.perf.perf_data import VIEWS, measure, write_tree


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_loading_beats_the_plain_way_and_the_cache_beats_it_by_far(tmp_path):
    write_tree(tmp_path / "data", 32)
    for views in VIEWS:
        (speed,) = measure(tmp_path / "data", views, [1], batch_size=8)
        suite, cached = speed.suite / speed.plain, speed.cached / speed.plain
        print(f"{dict(views)}: {suite:.2f} times the plain way, {cached:.1f} times with the cache")
        # 1.5 and more, and 10 and more, on a machine that does nothing else.
        assert speed.suite > speed.plain
        assert speed.cached > 4 * speed.plain
