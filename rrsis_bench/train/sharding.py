"""FSDP2: each process keeps a share of every weight, gradient and optimiser state."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import SegmenterOutput


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Shard a model in place: each of several equal blocks in a row is gathered alone, the rest with the model.

    Numbers (parameters without dimensions) cannot be sharded and stay whole.

    Args:
        model: with the same weights in every process.
        mesh: the processes, as torch's device mesh of one dimension.

    Raises:
        UserError: torch is too old.
    """
    from torch.distributed.fsdp import fully_shard

    if not is_supported():
        raise UserError(f"trainer.strategy=fsdp needs a newer torch than {torch.__version__}. Use trainer=ddp.")
    _register_output()
    numbers = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    options: dict[str, Any] = {"mesh": mesh, **({"ignored_params": numbers} if numbers else {})}
    for module in reversed(list(model.modules())):  # inner lists before outer ones
        if isinstance(module, nn.ModuleList | nn.Sequential):
            kinds = Counter(type(child) for child in module)
            for child in module:
                if kinds[type(child)] > 1 and _is_block(child):
                    fully_shard(child, **options)
    fully_shard(model, **options)
    return model


def _register_output() -> None:
    """Let FSDP find the tensors of a model's output: it reduces gradients by hooks on them."""
    from torch.utils import _pytree

    names = [field.name for field in dataclasses.fields(SegmenterOutput)]
    if SegmenterOutput not in _pytree.SUPPORTED_NODES:
        _pytree.register_pytree_node(
            SegmenterOutput,
            lambda output: ([getattr(output, name) for name in names], None),
            lambda values, _: SegmenterOutput(*values),
        )


def is_supported() -> bool:
    """Return whether torch's FSDP2 can leave out parameters and keep weights gathered for an evaluation."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    known = inspect.signature(fully_shard).parameters
    return "ignored_params" in known and hasattr(FSDPModule, "set_reshard_after_forward")


def _is_block(module: nn.Module) -> bool:
    """Return whether a module has parameters in parts of its own, and no list whose parts others might call."""
    inside = list(module.modules())
    lists = any(isinstance(child, nn.ModuleList | nn.ModuleDict) or _is_stage(child) for child in inside)
    return not lists and len(inside) > 1 and any(True for _ in module.parameters())


def _is_stage(module: nn.Module) -> bool:
    """Return whether a module is a row of blocks, each with modules of its own."""
    return isinstance(module, nn.Sequential) and any(True for child in module for _ in child.children())


def apart(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return sharded and whole parameters as lists of their own, which torch's functions over many tensors need."""
    lists: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        lists[hasattr(parameter, "full_tensor")].append(parameter)
    return [found for found in lists if found]


def full(tensor: Tensor) -> Tensor:
    """Return a whole tensor; a sharded one is gathered, so that all processes must call this."""
    sharded: Any = tensor
    return sharded.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's share of a whole tensor, sharded as `tensor` is."""
    if not hasattr(tensor, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = tensor
    return distribute_tensor(whole.to(tensor.device), sharded.device_mesh, sharded.placements)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """In the block, every process has all weights and no forward pass waits for another process."""
    units: list[Any] = [module for module in model.modules() if hasattr(module, "set_reshard_after_forward")]
    if not units:
        yield
        return
    whole: Any = model
    whole._get_fsdp_state()._lazy_init()  # or the first block that runs would take itself for the whole model
    whole.set_reshard_after_forward(False)
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        whole.set_reshard_after_forward(True)
        whole.set_reshard_after_forward(False, recurse=False)  # torch's default for the whole model
        for unit in units:
            unit.reshard()
