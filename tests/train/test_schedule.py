"""The learning rate at every step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rrsis_bench.train.schedule import SCHEDULES, build_schedule


def factor(step: int, total: int, **entry: Any) -> float:
    return SCHEDULES.bind(entry)(step, total)


def test_polynomial_is_the_formula_of_the_lavt_family():
    for step in range(100):
        expected = (1 - step / 100) ** 0.9
        assert factor(step, 100, name="polynomial", power=0.9) == pytest.approx(expected)
    assert factor(0, 100, name="polynomial") == 1
    assert factor(100, 100, name="polynomial") == 0


def test_cosine_at_its_ends_and_in_its_middle():
    assert factor(0, 10, name="cosine", min_lr_ratio=0.1) == 1
    assert factor(5, 10, name="cosine", min_lr_ratio=0.1) == pytest.approx(0.55)
    assert factor(10, 10, name="cosine", min_lr_ratio=0.1) == pytest.approx(0.1)
    assert factor(2, 10, name="cosine") == pytest.approx((1 + math.cos(math.pi / 5)) / 2)


def test_constant_stays():
    assert {factor(step, 7, name="constant") for step in range(8)} == {1.0}


def test_warm_up_rises_in_equal_steps_and_hands_over_at_one():
    rising = [factor(step, 20, name="cosine", warmup_steps=4) for step in range(5)]
    assert rising == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    falling = [factor(step, 20, name="cosine", warmup_steps=4) for step in range(4, 21)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0, abs=1e-12)


def test_a_warm_up_longer_than_the_run_divides_by_nothing():
    assert factor(2, 3, name="cosine", warmup_steps=10) == pytest.approx(0.3)
    assert factor(10, 10, name="polynomial", warmup_steps=10) == 1


def test_a_resumed_schedule_continues_with_the_same_rates():
    def make(initial: dict[str, float], step: int) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], **initial}], lr=0.3)
        return optimizer, build_schedule(optimizer, {"name": "cosine", "warmup_steps": 3}, 12, step)

    optimizer, schedule = make({}, 0)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.3 * factor(step, 12, name="cosine", warmup_steps=3) for step in range(12)]
    for step in (1, 3, 8):
        optimizer, schedule = make({"initial_lr": 0.3}, step)
        assert optimizer.param_groups[0]["lr"] == rates[step]
