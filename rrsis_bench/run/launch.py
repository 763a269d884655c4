"""Start one process per device, as torchrun does, and return what they return."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rrsis_bench.config.schema import Config, TrainerConfig
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.run.model import devices_of
from rrsis_bench.stop import STOP, WARNING, Interrupted
from rrsis_bench.world import PeerFailure, started_ranks

WORKER = "rrsis_bench.run.worker"
SIGNALS = (*STOP, *(WARNING if "SLURM_JOB_ID" in os.environ else ()))


def is_needed(trainer: TrainerConfig) -> bool:
    """Return whether a run needs processes that are not started yet.

    Raises:
        UserError: there are no such devices, or several machines, on each of which torchrun or srun starts the run.
    """
    if started_ranks() is not None:
        return False
    devices = devices_of(trainer)
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes} needs a start on every machine: srun --nodes={trainer.num_nodes} "
            f"--ntasks-per-node={devices} rrsis-bench bench ..., or torchrun --nnodes={trainer.num_nodes} "
            f"--nproc-per-node={devices} --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m rrsis_bench.run ..."
        )
    return devices > 1


def check_batch(config: Config) -> None:
    """Refuse a training whose processes cannot share the batch, before anything is built.

    Raises:
        UserError: naming numbers of processes that can.
    """
    batch, processes = config.train.batch_size, devices_of(config.trainer) * config.trainer.num_nodes
    if batch % processes:
        fitting = ", ".join(str(number) for number in range(1, batch + 1) if batch % number == 0)
        raise UserError(
            f"train.batch_size={batch} cannot be shared by {processes} processes (trainer.devices x "
            f"trainer.num_nodes). It is the batch of all devices together. Use {fitting} processes, or a batch size "
            f"that {processes} divides, which makes another row."
        )
    if config.trainer.strategy == "fsdp" and processes > 1 and config.train.callbacks:
        names = ", ".join(str(entry.get("name")) for entry in config.train.callbacks)
        raise UserError(f"trainer.strategy=fsdp does not support train.callbacks ({names}). Use trainer=ddp.")


def own_console() -> Terminal:
    """Return the console of this process; only process 0 of a run prints."""
    rank, _ = started_ranks() or (0, 1)
    return Terminal(quiet=rank > 0)


def start(verb: str, config: Config, overrides: Sequence[str] = ()) -> None:
    """Run `verb` in one process per device of this machine and wait for them.

    Args:
        verb: ``"bench"`` or ``"evaluate"``.
        config: of the run.
        overrides: the overrides that the user typed, for ``evaluate``.

    Raises:
        PeerFailure: a process failed.
        Interrupted: a signal stopped them.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it logs each end of a process
    with TemporaryDirectory(prefix="rrsis-bench-") as folder, _signals_kept():
        task, failure = Path(folder) / "task.json", Path(folder) / "failure.json"
        task.write_text(json.dumps({"verb": verb, "config": config.plain(), "overrides": list(overrides)}))
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices_of(config.trainer),
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=",".join(number.name for number in SIGNALS),
        )
        try:
            elastic_launch(launch, sys.executable)("-m", WORKER, str(task))
        except SignalException as stopped:
            raise Interrupted(stopped.sigval) from None
        except ChildFailedError as error:
            rank, first = error.get_first_failure()
            if failure.is_file():
                found = json.loads(failure.read_text(encoding="utf-8"))
                raise PeerFailure(found["message"], found["status"]) from None
            if first.exitcode - 128 in SIGNALS:
                raise Interrupted(first.exitcode - 128) from None
            raise PeerFailure(
                f"Process {rank} of {launch.nproc_per_node} ended with exit code {first.exitcode}"
                f"{_signal_name(first.exitcode)}. The same command continues from the last checkpoint."
            ) from None


def _signal_name(code: int) -> str:
    return f" ({signal.Signals(-code).name}, for example because memory ran out)" if code < 0 else ""


@contextmanager
def _signals_kept() -> Iterator[None]:
    """In the block, torch may install handlers for signals; restore the present ones."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
