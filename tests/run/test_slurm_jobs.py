"""Jobs of a cluster without a cluster: what is asked for, what a job does on a signal, what is shown."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from functools import partial
from pathlib import Path

import pytest

from rrsis_bench import cli
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.overrides import choices
from rrsis_bench.config.schema import LauncherConfig
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.predict import batch
from rrsis_bench.run import __main__ as run
from rrsis_bench.run import slurm
from rrsis_bench.run.slurm import SlurmJob, Task, run_tasks
from tests.fakes.config import tiny_overrides


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Programs that write down how they were called. The node of a job runs nothing: tests write the outcomes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 7')
    program(folder, "srun", "exit 1")
    program(folder, "scontrol", f'echo "$@" >> {tmp_path}/scontrol; exit ${{SCONTROL_EXIT:-0}}')
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "POLL_S", 0)
    monkeypatch.setattr(slurm, "LOST", 2)
    return tmp_path


@pytest.fixture
def in_a_job(cluster, monkeypatch):
    for name, value in (("JOB_ID", "9"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "1"), ("PROCID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return cluster


def kill(number: int) -> dict[str, str]:
    os.kill(os.getpid(), number)
    return {"status": "not reached"}


def finish() -> dict[str, str]:
    return {"status": "finished"}


def asked(cluster: Path) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in (cluster / "script").read_text().splitlines()]
    return dict(line.partition("=")[::2] for line in lines)


def test_a_job_writes_what_its_task_returns(in_a_job):
    SlurmJob(finish, in_a_job / "outcome.json", 3)()
    assert json.loads((in_a_job / "outcome.json").read_text()) == {"status": "finished"}
    assert not (in_a_job / "scontrol").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_job_that_is_warned_stops_and_is_queued_again(in_a_job, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        SlurmJob(partial(kill, number), in_a_job / "outcome.json", 3)()
    assert caught.value.code == 128 + number
    assert (in_a_job / "scontrol").read_text() == "requeue 7_1\n", "the number 7 alone names the whole array"
    assert not (in_a_job / "outcome.json").exists()
    assert signal.getsignal(number) is before


def test_a_job_that_is_preempted_leaves_the_queue_to_slurm(in_a_job):
    with pytest.raises(SystemExit) as caught:
        SlurmJob(partial(kill, signal.SIGTERM), in_a_job / "outcome.json", 3)()
    assert caught.value.code == 143
    assert not (in_a_job / "scontrol").exists()
    assert not (in_a_job / "outcome.json").exists()


def test_only_the_first_process_of_a_job_queues_it_and_writes(in_a_job, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit):
        SlurmJob(partial(kill, signal.SIGUSR2), in_a_job / "outcome.json", 3)()
    SlurmJob(finish, in_a_job / "outcome.json", 3)()
    assert not (in_a_job / "scontrol").exists()
    assert not (in_a_job / "outcome.json").exists()


@pytest.mark.parametrize(("variable", "value"), [("SLURM_RESTART_COUNT", "3"), ("SCONTROL_EXIT", "1")])
def test_a_job_that_cannot_be_queued_again_says_so(in_a_job, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    SlurmJob(partial(kill, signal.SIGUSR2), in_a_job / "outcome.json", 3)()
    assert "not queued again" in json.loads((in_a_job / "outcome.json").read_text())["error"]


def test_a_warning_outside_a_job_is_not_ours(monkeypatch):
    """SLURM's signals are nobody's elsewhere: a profiler may use them."""
    from rrsis_bench.stop import StopRequest

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with StopRequest():
        assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.parametrize("name", [name for name in choices("launcher") if name != "none"])
def test_every_launcher_asks_for_tasks_per_node_by_name(cluster, name):
    config = compose_config([f"launcher={name}", "launcher.partition=p", "launcher.options={reservation: night}"])
    launcher = config.launcher
    tasks = [Task("a", finish), Task("b", finish)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "_states", lambda _: {})
        list(run_tasks(tasks, launcher, cluster / "jobs", Terminal(quiet=True)))
    found = asked(cluster)
    assert found["array"] == "0-1%2"
    assert found["job-name"] == "rrsis-bench"
    assert found["nodes"] == str(launcher.nodes)
    assert found["ntasks-per-node"] == str(launcher.tasks_per_node)
    assert found.get("gpus-per-node") == (str(launcher.gpus_per_node) if launcher.gpus_per_node else None)
    assert "gpus-per-task" not in found, "it breaks the choice of the device"
    assert found["partition"] == "p"
    assert found["reservation"] == "night"
    assert found["signal"] == "USR2@120"
    assert "requeue" in found
    assert found["open-mode"] == "append"


def test_outcomes_come_as_the_jobs_end_and_a_lost_job_is_named(cluster, monkeypatch):
    polls = []

    def states(_):
        polls.append(1)
        (place,) = (cluster / "jobs").iterdir()
        if len(polls) == 2:
            (place / "outcome-0.json").write_text('{"status": "finished"}')
        if len(polls) in (3, 4, 5):
            return None  # the controller is busy: this says nothing about the jobs
        return {"7_0": "RUNNING", "7_1": "PENDING"} if len(polls) < 7 else {}

    monkeypatch.setattr(slurm, "_states", states)
    tasks = [Task("a", finish), Task("b", finish)]
    found = list(run_tasks(tasks, LauncherConfig(name="slurm"), cluster / "jobs", Terminal(quiet=True)))
    assert found[0] == (0, {"status": "finished"})
    assert found[1][0] == 1
    assert "7_1 ended without a result" in found[1][1]["error"]
    assert "_log.out" in found[1][1]["error"]
    assert len(polls) == 8


def test_a_sweep_on_a_cluster_has_one_closing_table(cluster, fake_root, monkeypatch, capsys):
    def states(_):
        (place,) = (cluster / "runs" / ".slurm").iterdir()
        (place / "outcome-0.json").write_text('{"name": "seed=0", "status": "finished", "seconds": 3, "reason": ""}')
        (place / "outcome-1.json").write_text('{"name": "seed=1", "status": "oom", "seconds": 3, "reason": "full"}')
        return {}

    monkeypatch.chdir(cluster)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setattr(slurm, "_states", states)
    monkeypatch.setenv("COLUMNS", "200")
    overrides = [*tiny_overrides(cluster, fake_root), "model=lavt", "launcher=slurm"]
    assert run.main([*overrides, "-m", "seed=0,1,-1"]) == 1
    table = capsys.readouterr().out.rpartition("Sweep")[2]
    assert "1 of 3 runs are finished" in table
    assert "full" in table
    assert "seed=-1 must be at least 0" in table, "refused before a job was submitted"
    assert not list((cluster / "runs").glob("lavt-*")), "nothing was trained here"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["launcher=slurm_node"], "launcher.tasks_per_node=4 processes .* but trainer.devices=1"),
        (["launcher=slurm_node", "trainer.devices=2"], "launcher.tasks_per_node=4 processes .* but trainer.devices=2"),
        (["launcher=slurm_nodes", "trainer.devices=4"], "launcher.nodes=2 nodes, but trainer.num_nodes=1"),
        (["launcher=slurm", "trainer.num_nodes=2"], "launcher.nodes=1 nodes, but trainer.num_nodes=2"),
        (["launcher=slurm", "launcher.nodes=2", "trainer.num_nodes=2", "trainer.devices=4"], "tasks_per_node=1 proc"),
        (["launcher=slurm", "trainer.devices=4"], "Set launcher.gpus_per_node=4"),
        (["launcher=slurm_node", "trainer=ddp", "trainer.devices=4"], None),
        (["launcher=slurm_node", "trainer=ddp"], None),
        (["launcher=slurm_nodes", "trainer=fsdp", "trainer.devices=4", "trainer.num_nodes=2"], None),
        (["launcher=slurm_cpu", "trainer.devices=2"], None),
        (["launcher=slurm"], None),
    ],
)
def test_a_job_starts_the_processes_of_the_trainer(overrides, problem):
    """Otherwise each job would wait in the queue and end with an error."""
    config = compose_config(["data=custom", "model=lavt", *overrides])
    if problem is None:
        slurm.check_processes(config.launcher, config.trainer)
        return
    with pytest.raises(UserError, match=problem):
        slurm.check_processes(config.launcher, config.trainer)


def test_a_job_with_other_processes_is_refused_before_it_is_queued(cluster, fake_root, monkeypatch, capsys):
    monkeypatch.chdir(cluster)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    with pytest.raises(SystemExit) as caught:
        run.main([*tiny_overrides(cluster, fake_root), "model=lavt", "launcher=slurm_node"])
    assert caught.value.code == 2
    assert "trainer.devices=1 needs one process" in " ".join(capsys.readouterr().out.split())
    assert not (cluster / "script").exists()


def test_without_a_cluster_it_is_a_sentence(fake_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run.main([*tiny_overrides(tmp_path, fake_root), "model=lavt", "launcher=slurm"]) == 2
    assert "login node" in capsys.readouterr().err


def test_a_launcher_for_one_image_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"")
    command = ["predict", str(tmp_path / "a.png"), "the ship", "--run", "x", "-o", str(tmp_path / "out")]
    assert cli.main([*command, "--launcher", "slurm"]) == 2
    assert "--launcher applies to a folder" in capsys.readouterr().err
    monkeypatch.setattr(batch.ModelSource, "sha256", lambda _: "0" * 64)
    folder = [command[0], str(tmp_path), *command[2:]]
    assert cli.main([*folder, "--launcher", "slrum"]) == 2
    assert "Did you mean slurm" in capsys.readouterr().err
    assert cli.main([*folder, "--launcher-set", "partition=x"]) == 2
    assert "needs --launcher" in capsys.readouterr().err
    with pytest.raises(UserError, match="partition"):
        compose_config(["launcher=slurm", "launcher.partion=x"])
