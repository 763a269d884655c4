"""Several processes of one run in the tests: forked, with the environment that torchrun gives its processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells process `rank` of `size`."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start(size: int, call: Callable[[int], Any], folder: Path) -> list[multiprocessing.process.BaseProcess]:
    """Start `call(rank)` in `size` processes; what they print and return goes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = [
        multiprocessing.get_context("fork").Process(target=_child, args=(rank, size, port, call, folder))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def in_world(size: int, call: Callable[[int], Any], folder: Path, timeout: float = 240) -> list[Any]:
    """Call `call(rank)` in `size` processes and return what they return, by rank; all must end well."""
    processes = start(size, call, folder)
    for process in processes:
        process.join(timeout)
    logs = {rank: log(folder, rank) for rank in range(size)}
    assert [process.exitcode for process in processes] == [0] * size, logs
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(size)]  # noqa: S301 - written here


def log(folder: Path, rank: int) -> str:
    return (folder / f"{rank}.log").read_text(encoding="utf-8")


def _child(rank: int, size: int, port: int, call: Callable[[int], Any], folder: Path) -> None:
    descriptor = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)  # pytest has its own
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ.update(environment(rank, size, port))
        result = call(rank)
        (folder / f"{rank}.pkl").write_bytes(pickle.dumps(result))
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - shown by `in_world`
        traceback.print_exc()
    finally:
        os._exit(code)
