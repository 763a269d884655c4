"""AdamW with the papers' parameter groups, and learning rates per optimiser step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter


def freeze(model: Segmenter, patterns: Sequence[str]) -> list[str]:
    """Stop the gradients of parameters whose names match; returns the names.

    Raises:
        UserError: a pattern that matches no parameter, which would otherwise do nothing in silence.
    """
    frozen: list[str] = []
    for pattern in patterns:
        matches = [name for name, _ in model.named_parameters() if fnmatchcase(name, pattern)]
        if not matches:
            raise UserError(f"train.freeze: the pattern '{pattern}' matches no parameter of this model.")
        frozen += matches
    names = set(frozen)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return sorted(names)


def build_optimizer(model: Segmenter, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; those that `model.no_weight_decay` names carry no decay."""
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if model.no_weight_decay(name) else decayed).append(parameter)
    if not decayed and not plain:
        raise UserError("Nothing is left to train: train.freeze matches every parameter of the model.")
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, fused=True)


def learning_rate_factor(
    step: int, total: int, *, schedule: str, warmup_steps: int = 0, power: float = 0.9, min_lr_ratio: float = 0.0
) -> float:
    """Multiplier of the base learning rate at optimiser step `step` (0-based) of `total`.

    Linear warm-up over `warmup_steps`, then ``polynomial`` decay ``(1 - progress) ** power`` (LAVT family: power 0.9),
    ``cosine`` decay, or ``constant``; never below `min_lr_ratio`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    if schedule == "polynomial":
        factor = (1 - progress) ** power
    elif schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    elif schedule == "constant":
        factor = 1.0
    else:
        raise UserError(f"train.schedule must be polynomial, cosine or constant, not '{schedule}'.")
    return min_lr_ratio + (1 - min_lr_ratio) * factor
