"""Optimisers with the papers' parameter groups, as named entries of ``train.optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import timm.optim as timm_optim
import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from rrsis_bench.config.entries import Entries, option
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.interfaces import Segmenter

Groups = list[dict[str, Any]]


def over_groups(
    make: Callable[..., Optimizer],
    decayed: list[Parameter],
    plain: list[Parameter],
    *,
    lr: Annotated[float, option("Base learning rate.", above=0)],
    weight_decay: Annotated[
        float, option("Decay of all parameters but those that the model excludes.", at_least=0)
    ] = 0.0,
) -> Optimizer:
    """Build an optimiser over parameters with and without weight decay."""
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    try:
        return make([group for group in groups if group["params"]], lr=lr)
    except (TypeError, ValueError, AssertionError) as error:  # the class itself checks the values of its options
        raise UserError(f"train.optimizer does not fit its class: {error}.") from error


OPTIMIZERS = Entries[Optimizer]("train.optimizer", over_groups)


@OPTIMIZERS.add("adamw")
def adamw(
    groups: Groups,
    lr: float,
    *,
    betas: Annotated[tuple[float, float], option("Decay rates of the two moments.", at_least=0, below=1)] = (
        0.9,
        0.999,
    ),
    eps: Annotated[
        float, option("Added to the root of the second moment; smaller for a loss with smaller gradients.", above=0)
    ] = 1e-8,
) -> Optimizer:
    """AdamW of torch, fused."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


@OPTIMIZERS.add("sgd")
def sgd(
    groups: Groups,
    lr: float,
    *,
    momentum: Annotated[float, option("Momentum.", at_least=0, below=1)] = 0.9,
    nesterov: Annotated[bool, option("Whether to use Nesterov's momentum.")] = False,
) -> Optimizer:
    """Stochastic gradient descent of torch."""
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)


@OPTIMIZERS.add("timm")
def timm_optimizer(
    groups: Groups,
    lr: float,
    *,
    opt: Annotated[str, option("Name in timm.optim, such as lion or lamb.")],
    options: Annotated[dict[str, Any] | None, option("Keyword arguments of that class.")] = None,
) -> Optimizer:
    """Any optimiser of timm that needs gradients only."""
    timm: Any = timm_optim  # its names are not exported explicitly, so mypy does not see them
    known: list[str] = [name for name in timm.list_optimizers() if not timm.get_optimizer_info(name).second_order]
    if opt not in known:
        raise unknown("train.optimizer.opt", opt, known)
    made: Optimizer = timm.create_optimizer_v2(groups, opt=opt, lr=lr, **(options or {}))
    return made


def freeze(model: Segmenter, patterns: Sequence[str]) -> list[str]:
    """Stop the gradients of parameters whose names match; return the names.

    Raises:
        UserError: a pattern matches no parameter.
    """
    frozen: list[str] = []
    for pattern in patterns:
        matches = [name for name, _ in model.named_parameters() if fnmatchcase(name, pattern)]
        if not matches:
            raise UserError(f"train.freeze: the pattern '{pattern}' matches no parameter of this model. Remove it.")
        frozen += matches
    names = set(frozen)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return sorted(names)


def build_optimizer(model: Segmenter, entry: Mapping[str, Any]) -> Optimizer:
    """Build ``train.optimizer`` over the trainable parameters.

    Parameters that `model.no_weight_decay` names carry no decay.

    Raises:
        UserError: nothing is trainable, or the entry does not fit; see `Entries.bind`.
    """
    decayed: list[Parameter] = []
    plain: list[Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if model.no_weight_decay(name) else decayed).append(parameter)
    if not decayed and not plain:
        raise UserError("train.freeze matches every parameter of the model, so nothing is trained. Remove a pattern.")
    return OPTIMIZERS.bind(entry)(decayed, plain)
