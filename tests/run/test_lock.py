"""One run belongs to one process: a second one is refused with its name. A dead holder counts for nothing."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.run import bench, lock
from rrsis_bench.run.lock import RunLock, refuse_if_running
from tests.fakes.config import parsed

CONSOLE = Terminal(file=io.StringIO(), width=300)


def hold(config, run_id, pipe):
    lock._OWN.clear()  # this process was forked
    with RunLock(Path(config.runs), run_id, config, CONSOLE):
        pipe.send("locked")
        pipe.recv()


def start(config, run_id):
    """Start a process that holds a lock until something is sent to it; return it and the pipe."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(config, run_id, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == "locked"
    return process, ours


@pytest.fixture
def holder(tmp_path):
    """A configuration, and a process that holds its run's lock."""
    config = parsed(f"runs={tmp_path / 'runs'}", "data=rrsisd", f"data.root={tmp_path / 'nowhere'}")
    process, pipe = start(config, "a-run")
    yield config, process
    if process.is_alive():
        pipe.send("end")
    process.join(60)


def test_the_second_start_names_the_holder(holder):
    config, process = holder
    with pytest.raises(UserError, match=rf"a-run is in use by process {process.pid} on .*, started 20"):
        RunLock(Path(config.runs), "a-run", config, CONSOLE).__enter__()
    with RunLock(Path(config.runs), "another-run", config, CONSOLE):
        pass


def test_the_second_start_ends_before_it_opens_the_data(holder):
    config, process = holder
    with pytest.raises(UserError, match=f"process {process.pid}"):
        bench.bench(config, CONSOLE)  # its dataset does not exist
    other = parsed(f"runs={config.runs}", "data=rrsisd", f"data.root={config.data.root}", "seed=1")
    refuse_if_running(other)


def test_force_does_not_delete_a_run_in_use(holder):
    config, process = holder
    forced = parsed(f"runs={config.runs}", "data=rrsisd", f"data.root={config.data.root}", "force=true")
    with pytest.raises(UserError, match=f"process {process.pid}"):
        bench.bench(forced, CONSOLE)


def test_the_lock_of_a_killed_process_is_free(holder):
    config, process = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    refuse_if_running(config)
    with RunLock(Path(config.runs), "a-run", config, CONSOLE):
        pass


def test_child_processes_do_not_keep_the_lock(tmp_path):
    """Loader processes are forked from the process that holds the lock."""
    config = parsed(f"runs={tmp_path}")
    ours, theirs = multiprocessing.Pipe()
    with RunLock(tmp_path, "a-run", config, CONSOLE):
        child = multiprocessing.get_context("fork").Process(target=theirs.recv)
        child.start()
    assert child.is_alive()
    other, pipe = start(config, "a-run")
    pipe.send("end")
    ours.send("end")
    child.join(60)
    other.join(60)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").touch()
    config = parsed(f"runs={tmp_path / 'runs'}")
    with pytest.raises(UserError, match=r"runs.*cannot be written"):
        RunLock(Path(config.runs), "a-run", config, CONSOLE).__enter__()


def test_a_run_may_lock_itself_again(tmp_path):
    config = parsed(f"runs={tmp_path}")
    with RunLock(tmp_path, "a-run", config, CONSOLE):
        with RunLock(tmp_path, "a-run", config, CONSOLE):
            pass
        child = multiprocessing.get_context("fork").Process(target=hold, args=(config, "a-run", None))
        child.start()
        child.join(60)
        assert child.exitcode == 1, "refused: the inner block did not release the lock"
