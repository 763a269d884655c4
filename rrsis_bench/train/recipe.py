"""Checks the named entries of a recipe before any data are opened or a model is built."""

from __future__ import annotations

from typing import Any

import torch

from rrsis_bench.config.entries import Entries, require_unique
from rrsis_bench.config.schema import TrainConfig
from rrsis_bench.data.loading.augment import AUGMENTATIONS
from rrsis_bench.train.callbacks import CALLBACKS
from rrsis_bench.train.losses import LOSSES, SegmentationLoss
from rrsis_bench.train.optim import OPTIMIZERS
from rrsis_bench.train.schedule import SCHEDULES

KINDS: tuple[Entries[Any], ...] = (LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTATIONS, CALLBACKS)
"""Every kind of named entry that a recipe has."""


def check_recipe(train: TrainConfig) -> None:
    """Check every named entry of a recipe.

    Raises:
        UserError: an unknown name, an unknown or missing option, or an option of a wrong type or out of bounds.
    """
    SegmentationLoss(train.loss, align_corners=train.align_corners)
    # The optimiser's class checks its own values, so one is built over a stand-in parameter.
    OPTIMIZERS.bind(train.optimizer)({"stand-in": torch.nn.Parameter(torch.zeros(1))}, {})
    SCHEDULES.bind(train.schedule)
    AUGMENTATIONS.bind_all(train.augment)
    CALLBACKS.bind_all(train.callbacks)
    require_unique("train.callbacks", train.callbacks)
