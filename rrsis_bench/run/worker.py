"""One of the processes that `rrsis_bench.run.launch` starts: ``python -m rrsis_bench.run.worker TASK``."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import torch

from rrsis_bench.config.schema import Config
from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import write_text
from rrsis_bench.run.launch import own_console
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.world import started_ranks

_PR_SET_PDEATHSIG = 1


def main(task: Path) -> int:
    """Run the task of a file and return the exit code; process 0 leaves its error beside the file."""
    _end_with_parent()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    given = json.loads(task.read_text(encoding="utf-8"))
    rank, _ = started_ranks() or (0, 1)
    try:
        with StopRequest():
            _call(given)
    except Interrupted as stopped:
        return stopped.exit_code
    except Exception as error:
        known = isinstance(error, UserError)
        if rank == 0:
            message = str(error) if known else f"{type(error).__name__}: {reason(error)}"
            status = str(getattr(error, "status", "failed"))
            write_text(task.with_name("failure.json"), json.dumps({"message": message, "status": status}))
        if not known:
            raise
        return 2
    return 0


def _call(given: dict[str, object]) -> None:
    from rrsis_bench.run.bench import bench
    from rrsis_bench.run.evaluate import evaluate

    config = Config.parse(given["config"])  # type: ignore[arg-type]
    if given["verb"] == "bench":
        bench(config, own_console())
    else:
        evaluate(config, own_console(), given["overrides"])  # type: ignore[arg-type]


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the process that started this one ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.exit(code)
