"""A selection of `make fuzz` with fixed seeds: no traceback, no hang."""

from __future__ import annotations

from tests.fuzz.__main__ import run


def test_damaged_inputs_are_read_or_refused():
    summary = run(seed=1, seconds=600, cases=1500)
    assert summary["faults"] == []
    assert summary["cases"] == 1500
