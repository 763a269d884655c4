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
    decayed: dict[str, Parameter],
    plain: dict[str, Parameter],
    *,
    lr: Annotated[float, option("Base learning rate.", above=0)],
    weight_decay: Annotated[
        float, option("Decay of all parameters but those that the model excludes.", at_least=0)
    ] = 0.0,
    lr_scales: Annotated[
        dict[str, float] | None,
        option(
            "Shares of the learning rate, by patterns over parameter names; the first that matches counts.", above=0
        ),
    ] = None,
) -> Optimizer:
    """Build an optimiser over parameters, by name, with and without weight decay."""
    groups = []
    for scale, names in _by_scale([*decayed, *plain], lr_scales or {}).items():
        rate = {} if scale == 1.0 else {"lr": scale * lr}
        for members, decay in ((decayed, weight_decay), (plain, 0.0)):
            params = [parameter for name, parameter in members.items() if name in names]
            groups.append({"params": params, "weight_decay": decay, **rate})
    try:
        return make([group for group in groups if group["params"]], lr=lr)
    except (TypeError, ValueError, AssertionError) as error:  # the class itself checks the values of its options
        raise UserError(f"train.optimizer does not fit its class: {error}.") from error


def _by_scale(names: Sequence[str], scales: Mapping[str, float]) -> dict[float, set[str]]:
    """Return the names per share of the learning rate. The share 1 comes first: its rate is the one that is logged."""
    found: dict[float, set[str]] = {1.0: set()}
    for name in names:
        scale = next((scale for pattern, scale in scales.items() if fnmatchcase(name, pattern)), 1.0)
        found.setdefault(scale, set()).add(name)
    return found


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
    amsgrad: Annotated[bool, option("Whether to divide by the largest second moment so far.")] = False,
) -> Optimizer:
    """AdamW of torch, fused."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, fused=True)


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
        UserError: nothing is trainable, a pattern of `lr_scales` matches nothing, or the entry does not fit; see
            `Entries.bind`.
    """
    decayed: dict[str, Parameter] = {}
    plain: dict[str, Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if model.no_weight_decay(name) else decayed)[name] = parameter
    if not decayed and not plain:
        raise UserError("train.freeze matches every parameter of the model, so nothing is trained. Remove a pattern.")
    optimizer = OPTIMIZERS.bind(entry)(decayed, plain)
    for pattern in entry.get("lr_scales") or {}:
        if not any(fnmatchcase(name, pattern) for name in (*decayed, *plain)):
            raise UserError(
                f"train.optimizer.lr_scales: the pattern '{pattern}' matches no trainable parameter of this model. "
                "Remove it."
            )
    return optimizer
