"""Training on several devices: one process each, which together compute what a single process computes.

- The loss is that of the whole batch: every process gathers the logits and targets of all. The mean of the processes'
  losses would be another loss where a term is a sum over the batch, or is weighted by the pixels of the batch. A
  model's own losses are means over samples. One that compares samples asks for all with `Segmenter.whole_batch`.
- Batch norms in training use the statistics of the whole batch. Those that a model keeps in evaluation mode stay.
  One difference is left: where an image is encoded once for all of its expressions, and the encoder trains its batch
  norms (the tiny ResNet), an image whose expressions fall to two processes counts twice.
- DDP averages gradients without a search for unused parameters. Parameters that a model's ``contract`` declares as dead
  are averaged here, if they get a gradient at all. Any other parameter without one is an error.
- Dropout draws from a generator seeded by (seed, epoch, batch, process), so that a resumed run draws the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy, Strategy  # type: ignore[attr-defined]
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.train.frozen import tensors_sha256
from rrsis_bench.train.sharding import shard
from rrsis_bench.world import World


def make_strategy(name: str, processes: int) -> Strategy:
    """Return Fabric's strategy for ``trainer.strategy`` on several processes."""
    if name == "fsdp":
        return ModelParallelStrategy(
            lambda model, mesh: shard(model, mesh["data_parallel"]),
            data_parallel_size=processes,
            tensor_parallel_size=1,
        )
    return DDPStrategy(broadcast_buffers=False)  # `SyncedNorm` keeps them equal


class _WholeBatch(torch.autograd.Function):
    """Rows of all processes, in order. The gradient is scaled, because DDP and FSDP average it over processes."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, world: World) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world.size)]
        dist.all_gather(parts, local.contiguous())
        ctx.rows, ctx.world = len(local), world
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        first = ctx.world.rank * ctx.rows
        return ctx.world.size * gradients[0][first : first + ctx.rows], None


class _Mean(torch.autograd.Function):
    """Mean of a scalar over processes; the gradient is that of this process's value, which DDP and FSDP average."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, world: World) -> Tensor:  # noqa: ARG004 - the signature of torch
        total = local.clone()
        dist.all_reduce(total)
        return total / world.size

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm over the batches of all processes, on the CPU, for which torch has none."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise as `nn.BatchNorm2d` does over the whole batch."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        count = torch.tensor(input.numel() // input.shape[1])
        dist.all_reduce(count)  # processes that encode an image once may differ
        n = int(count)
        mean_C = all_reduce(input.sum(dims)) / n
        centred = input - mean_C.view(shape)
        variance_C = all_reduce(centred.square().sum(dims)) / n
        if self.track_running_stats:
            self._track(mean_C.detach(), variance_C.detach() * n / max(1, n - 1))
        found: Tensor = centred * torch.rsqrt(variance_C + self.eps).view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found

    def _track(self, mean_C: Tensor, variance_C: Tensor) -> None:
        steps, mean, variance = (
            cast(Tensor, getattr(self, name)) for name in ("num_batches_tracked", "running_mean", "running_var")
        )
        steps.add_(1)
        share = 1 / float(steps) if self.momentum is None else self.momentum
        mean.lerp_(mean_C, share)
        variance.lerp_(variance_C, share)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Accept what the class accepted that this one stands for."""


class Parallel:
    """What several processes add to a training; for a single process nothing.

    Args:
        fabric: launched.
        model: on any device, before it is set up; its batch norms are changed in place.
        seed: the run's.
        sharded: whether each process will keep a share of the weights (FSDP).
    """

    def __init__(self, fabric: Fabric, model: Segmenter, seed: int, *, sharded: bool = False):
        self.world, self._sharded = World.of(fabric), sharded
        self._model, self._seed = model, seed
        self._norms: list[tuple[nn.Module, type[nn.Module]]] = []
        self._dead: list[str] = []
        if self.world.size == 1:
            return
        model.whole_batch = self.whole  # type: ignore[method-assign]
        model.train()
        for module in model.modules():
            if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) and module.training:
                self._norms.append((module, type(module)))
                module.__class__ = nn.SyncBatchNorm if fabric.device.type == "cuda" else SyncedNorm
                module.process_group = None  # type: ignore[assignment] # SyncBatchNorm's: all processes
        self._dead = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and re.match(model.contract.dead_parameters, name)
        ]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, self._dead)
        state = model.state_dict()
        self.require_equal(tensors_sha256(state, list(state)), "initial weights")

    def restore(self) -> None:
        """Give the model its own batch norms and `whole_batch` back, after the training."""
        self._model.__dict__.pop("whole_batch", None)
        for module, kind in self._norms:
            module.__class__ = kind
        self._norms = []

    def require_equal(self, digest: str, what: str) -> None:
        """Raise UserError unless all processes have the same digest."""
        if len(set(self.world.gather(digest))) > 1:
            raise UserError(
                f"The processes of this run have different {what}. Use the same versions of PyTorch and of the suite "
                "and the same kind of machine for all of them."
            )

    def share_of(self, order: Sequence[int], batch: int) -> list[int]:
        """Return this process's samples of an order that is cut into batches of `batch` samples."""
        if self.world.size == 1:
            return list(order)
        share = min(batch, len(order)) // self.world.size
        first = self.world.rank * share
        return [
            index
            for start in range(0, len(order), batch)
            for index in order[start : start + batch][first : first + share]
        ]

    def before_step(self, epoch: int, batch: int) -> None:
        """Seed torch's generators for the next forward pass."""
        if self.world.size > 1:
            entropy = np.random.SeedSequence([self._seed, epoch, batch, self.world.rank])
            torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    def whole(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes; gradients reach this process's own."""
        if self.world.size == 1:
            return rows
        found: Tensor = _WholeBatch.apply(rows, self.world)  # type: ignore[no-untyped-call]
        return found

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over processes."""
        if self.world.size == 1:
            return value
        found: Tensor = _Mean.apply(value, self.world)  # type: ignore[no-untyped-call]
        return found

    def after_backward(self) -> None:
        """Average the gradients that DDP leaves out.

        Raises:
            UserError: a parameter that is not declared as dead has no gradient.
        """
        if self.world.size == 1:
            return
        missing = []
        for name, parameter in self._model.named_parameters():
            whole = not hasattr(parameter, "full_tensor")
            if self._sharded and whole and parameter.ndim:
                raise RuntimeError(
                    f"FSDP has not reduced the gradient of '{name}': it is hidden in the model's output."
                )
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                missing += [] if name in self._dead else [name]
            elif whole and (self._sharded or name in self._dead):
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world.size
        if missing:
            raise UserError(
                f"{len(missing)} parameters get no gradient from the loss, such as {', '.join(missing[:3])}, so that "
                "several processes would wait for them for ever. Freeze them with train.freeze, or declare them in "
                f"{type(self._model).__name__}.contract as dead_parameters."
            )
