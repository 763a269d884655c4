"""The processes of one run: who writes, what all of them know, and how all of them end with the same message.

A run on one device is one process, and every function here returns at once. A run on several devices is one process per
device, which `rrsis_bench.run.launch`, torchrun or srun start. All processes make the same calls in the same order.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rrsis_bench.errors import UserError, is_out_of_memory, reason
from rrsis_bench.stop import Interrupted

if TYPE_CHECKING:
    from lightning.fabric import Fabric

T = TypeVar("T")
_FAILURE = "rrsis_bench/failure"
_WAIT_S = 5.0  # for the message of a process that has gone
_LOST = ("connection", "closed by peer", "gloo", "nccl", "peer", "timed out", "process group")
_control: list[Any] = []  # the group of `World.of`; one per process


class PeerFailure(UserError):
    """Another process of the run failed; the message is that process's own.

    Attributes:
        status: of the run, as its own error would have it.
    """

    def __init__(self, message: str, status: str = "failed"):
        super().__init__(message)
        self.status = status


def started_ranks() -> tuple[int, int] | None:
    """Return (rank, number of processes) if torchrun or srun started this process beside others, else None."""
    for rank, size, marker in (
        ("RANK", "WORLD_SIZE", "MASTER_ADDR"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"),
    ):
        if marker in os.environ and int(os.environ.get(size, "1")) > 1:
            return int(os.environ[rank]), int(os.environ[size])
    return None


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        group: gloo group for messages between them; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def of(cls, fabric: Fabric) -> World:
        """Return the processes that share `fabric`, which is launched."""
        if fabric.world_size == 1:
            return cls()
        import torch.distributed as dist

        if not _control:
            # Messages never wait for a GPU, and a lost process is noticed by its closed connection.
            _control.append(dist.new_group(backend="gloo"))
        return cls(fabric.global_rank, fabric.world_size, _control[0])

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, by rank, in every process. Values are pickled."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def share(self, value: T) -> T:
        """Return the value of process 0 in every process."""
        return value if self.size == 1 else self.gather(value if self.is_main else None)[0]  # type: ignore[return-value]

    def largest(self, value: int) -> int:
        """Return the largest of the values of all processes."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        found = torch.tensor([value])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        return int(found)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Run the block in every process; an error in one of them is raised in all.

        Raises:
            MemoryError: another process ran out of memory.
            PeerFailure: another process failed otherwise.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001 - raised again below
            if _is_lost(raised):
                raise
            error = raised
        failures = self.gather(None if error is None else _described(error))
        if error is not None:
            raise error
        for rank, failure in enumerate(failures):
            if failure is not None:
                raise _failure_of(rank, failure)

    def on_main(self, call: Callable[[], T]) -> T | None:
        """Call in process 0 alone and return its result there, None elsewhere; an error is raised in all."""
        result = None
        with self.agreed():
            if self.is_main:
                result = call()
        return result

    def decided(self, call: Callable[[], T]) -> T:
        """Call in process 0 and return its result in all; an error is raised in all."""
        return self.share(self.on_main(call))  # type: ignore[return-value]

    def main_first(self, call: Callable[[], T]) -> T:
        """Call in process 0, which may write caches, then in the others; an error is raised in all."""
        result: list[T] = []
        with self.agreed():
            if self.is_main:
                result.append(call())
        with self.agreed():
            if not self.is_main:
                result.append(call())
        return result[0]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In the block, publish this process's error, and replace a lost connection by the error that caused it.

        Raises:
            PeerFailure: another process failed, or ended without a message.
            Interrupted: a signal stopped another process.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except PeerFailure:
            raise
        except Interrupted as stopped:
            self._publish({"signal": stopped.exit_code - 128})
            raise
        except Exception as error:
            if _is_lost(error):
                raise self._cause(error) from error
            self._publish(_described(error) | {"rank": self.rank})
            raise

    def _publish(self, failure: dict[str, Any]) -> None:
        with suppress(Exception):  # the process that holds the store may have gone first
            _store().compare_set(_FAILURE, "", json.dumps(failure))

    def _cause(self, error: Exception) -> BaseException:
        try:
            store, ends = _store(), time.monotonic() + _WAIT_S
            while not store.check([_FAILURE]) and time.monotonic() < ends:
                time.sleep(0.1)
            if not store.check([_FAILURE]):
                raise LookupError(_FAILURE)
            found = json.loads(store.get(_FAILURE))
        except Exception:  # noqa: BLE001 - there is no message
            return PeerFailure(
                f"Another process of this run ended without a message ({reason(error)}). It was killed, or the "
                "machine's memory ran out. The same command continues from the last checkpoint."
            )
        return Interrupted(found["signal"]) if "signal" in found else _failure_of(found["rank"], found)


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _described(error: Exception) -> dict[str, Any]:
    known = isinstance(error, UserError)
    return {
        "memory": is_out_of_memory(error),
        "status": str(getattr(error, "status", "failed")),
        "message": str(error) if known else f"{type(error).__name__}: {reason(error)}",
        "known": known,
    }


def _failure_of(rank: int, failure: dict[str, Any]) -> Exception:
    if failure["memory"]:
        return MemoryError(failure["message"])
    message = failure["message"] if failure["known"] else f"Process {rank} of this run failed: {failure['message']}"
    return PeerFailure(message, failure["status"])


def _is_lost(error: Exception) -> bool:
    """Return whether an error says no more than that another process cannot be reached."""
    text = str(error).lower()
    return (
        isinstance(error, RuntimeError) and not is_out_of_memory(error) and any(word in text for word in _LOST)
    ) or type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError")
