"""A log file shows progress at least every minute; a terminal has its bar."""

from __future__ import annotations

import io

import pytest

from rrsis_bench import heartbeat
from rrsis_bench.console import Terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_a_minute_with_the_time_left(monkeypatch, terminal):
    clock = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    beats = heartbeat.Heartbeat(Terminal(file=out, width=40, force_terminal=terminal), 1000, done=100)
    for step in range(101, 501):
        clock[0] += 1.0
        beats.beat(step, lambda: "train epoch 1/3")
    lines = out.getvalue().splitlines()
    if terminal:
        assert lines == []
    else:
        assert len(lines) == 6
        assert lines[0] == "train epoch 1/3  160/1000, 0:14:00 left"
