"""Learning rates per optimiser step, as named entries of ``train.schedule``.

An entry maps the progress after the warm-up, 0 to 1, to a factor of the base learning rate, 1 to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rrsis_bench.config.entries import Entries, option


def warmed_up(
    decay: Callable[[float], float],
    step: int,
    total: int,
    *,
    warmup_steps: Annotated[int, option("Optimiser steps of linear warm-up.", unit="steps", at_least=0)] = 0,
    min_lr_ratio: Annotated[
        float, option("Floor of the schedule as a share of the base rate.", at_least=0, at_most=1)
    ] = 0.0,
) -> float:
    """Return the factor of the base learning rate at `step` (0-based) of `total`: warm-up, then decay to the floor."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    return min_lr_ratio + (1 - min_lr_ratio) * decay(progress)


SCHEDULES = Entries[float]("train.schedule", warmed_up)


@SCHEDULES.add("polynomial")
def polynomial(
    progress: float, *, power: Annotated[float, option("Exponent; the LAVT family uses 0.9.", above=0)] = 0.9
) -> float:
    """Decay as ``(1 - progress) ** power``."""
    return float((1 - progress) ** power)


@SCHEDULES.add("cosine")
def cosine(progress: float) -> float:
    """Decay along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@SCHEDULES.add("constant")
def constant(progress: float) -> float:  # noqa: ARG001 - the signature of every schedule
    """Stay at the base learning rate."""
    return 1.0


def build_schedule(optimizer: Optimizer, entry: Mapping[str, Any], total: int, step: int = 0) -> LambdaLR:
    """Build the schedule and set the learning rate of `step`.

    The rate depends on the step alone, so a resumed run needs no state of the schedule.

    Args:
        optimizer: its groups have the base rate as ``lr``, or as ``initial_lr`` after a resume.
        entry: ``train.schedule``.
        total: optimiser steps of the run.
        step: optimiser steps done.

    Raises:
        UserError: see `Entries.bind`.
    """
    factor = SCHEDULES.bind(entry)
    return LambdaLR(optimizer, lambda now: factor(now, total), last_epoch=step - 1)
