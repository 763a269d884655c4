"""What a training prints before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

from rrsis_bench.backbones.lora import trainable_parts
from rrsis_bench.console import Terminal
from rrsis_bench.interfaces import Segmenter


def show_parts(console: Terminal, model: Segmenter) -> None:
    """Print the number of parameters of each part and how many are trained, if any is not."""
    counts = trainable_parts(model)
    total, trained = (sum(column) for column in zip(*counts.values(), strict=True))
    if total == trained:
        return
    table = Table("part", Column("parameters", justify="right"), Column("trained", justify="right"))
    for part, (parameters, of_these) in counts.items():
        table.add_row(part, f"{parameters:,}", f"{of_these:,}")
    table.add_section()
    table.add_row("total", f"{total:,}", f"{trained:,}")
    console.print(table)


def show_warmup(console: Terminal, schedule: Mapping[str, Any], steps: int) -> None:
    """Print a warning if a training of `steps` optimiser steps ends within its warm-up."""
    warmup = schedule.get("warmup_steps", 0)
    if warmup >= steps:
        console.print(
            f"The warm-up has {warmup} steps and the training {steps}, so the learning rate never reaches "
            "train.optimizer.lr. Lower train.schedule.warmup_steps.",
            style="yellow",
            soft_wrap=True,
        )
