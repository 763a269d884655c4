"""Run tasks as jobs of a SLURM cluster: one task per job, stopped and continued as the cluster wants.

Jobs are submitted with submitit. A job that is warned of its end (USR1, USR2) stops behind a checkpoint, is queued
again and continues in its run folder. A job that is preempted (TERM) stops the same way, and SLURM queues it again. The
outcome of a task is a file in the folder of the jobs, so that neither the accounting of SLURM nor pickles are needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rrsis_bench.codec import dumps, parse_json
from rrsis_bench.config.schema import LauncherConfig, TrainerConfig
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import write_text
from rrsis_bench.heartbeat import EVERY_S
from rrsis_bench.printing import emit
from rrsis_bench.stop import WARNING, Interrupted, StopRequest

ARRAY = 1000
"""Jobs per array; SLURM's own default limit is 1001."""
POLL_S = 5.0
LOST = 6
"""Polls after which a job that left the queue without an outcome is given up. Shared file systems show files late."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something to run in a job.

    Attributes:
        name: for a person.
        call: returns the outcome, a JSON-ready mapping. It is pickled.
    """

    name: str
    call: Callable[[], dict[str, Any]]


@dataclass(slots=True)
class _Submitted:
    """A task whose job was submitted; `absent`: polls since it left the queue."""

    task: Task
    job_id: str
    log: Path
    outcome: Path
    absent: int = 0


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """What one job of an array runs; submitit pickles it.

    Attributes:
        call: of the task.
        outcome: the file that receives what `call` returns.
        requeues: how often the job may be queued again.
    """

    call: Callable[[], dict[str, Any]]
    outcome: Path
    requeues: int

    def __call__(self) -> None:
        """Run the task and write its outcome, or stop and queue the job again; only the first process does these."""
        use_local_device()
        try:
            with StopRequest():
                result = self.call()
        except Interrupted as stopped:
            emit(f"{stopped} The next start of this job continues.")
            if stopped.signum not in WARNING:  # SLURM itself queues a preempted job again
                sys.exit(stopped.exit_code)
            problem = _requeue(self.requeues)
            if not problem:
                sys.exit(stopped.exit_code)
            result = {"error": f"The job reached its end and is not queued again: {problem}."}
        if is_first():
            write_text(self.outcome, dumps(result))


def check_processes(config: LauncherConfig, trainer: TrainerConfig) -> None:
    """Refuse a job whose processes are not those of the trainer, before it waits in a queue.

    With one task per node the run starts its own processes there, which several nodes cannot share.

    Raises:
        UserError: naming the two fields that differ.
    """
    devices = trainer.devices or config.gpus_per_node
    shown = (
        f"A job starts launcher.tasks_per_node={config.tasks_per_node} processes on each of "
        f"launcher.nodes={config.nodes} nodes"
    )
    if config.nodes != trainer.num_nodes:
        raise UserError(f"{shown}, but trainer.num_nodes={trainer.num_nodes}. Set both to the same number.")
    if config.tasks_per_node != devices and (config.tasks_per_node > 1 or config.nodes > 1):
        raise UserError(
            f"{shown}, but trainer.devices={trainer.devices} needs one process for each device. Set both to the same "
            "number."
        )
    if config.gpus_per_node and devices > config.gpus_per_node:
        raise UserError(
            f"launcher.gpus_per_node={config.gpus_per_node}, but trainer.devices={trainer.devices}. Set "
            f"launcher.gpus_per_node={devices}."
        )


def use_local_device() -> None:
    """Make the GPU of this process the current one: SLURM numbers the processes of a node."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("SLURM_LOCALID", "0")) % torch.cuda.device_count())


def is_first() -> bool:
    """Return whether this is the first process of its job."""
    return os.environ.get("SLURM_PROCID", "0") == "0"


def _requeue(most: int) -> str:
    """Queue this job again; return why that was not done, or an empty text."""
    starts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if starts >= most:
        return f"launcher.requeues={most} is used up"
    array, place = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # The number of an array names all of its jobs.
    name = f"{array}_{place}" if array and place else os.environ["SLURM_JOB_ID"]
    if not is_first():
        return ""
    try:
        done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"scontrol requeue {name} failed")


def run_tasks(
    tasks: Sequence[Task], config: LauncherConfig, folder: Path, console: Terminal
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Submit tasks as one array of jobs and wait; yield (place of the task, outcome) as they end.

    A job that ends without an outcome yields ``{"error": reason}``.

    Args:
        tasks: at least one.
        config: what a job asks for.
        folder: receives scripts, logs and outcomes; every node must see it under the same path.
        console: shows the jobs and, once a minute, how many are left.

    Raises:
        UserError: submitit or SLURM is missing, or SLURM refuses the jobs.
        Interrupted: a signal. The jobs go on.
    """
    place = folder.absolute() / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{os.getpid()}"
    submitted = _submit(tasks, config, place)
    arrays = list(dict.fromkeys(job.job_id.partition("_")[0] for job in submitted))
    console.print(
        f"{len(tasks)} jobs submitted: {', '.join(arrays)}. Logs: {place}. To cancel them: scancel {' '.join(arrays)}",
        soft_wrap=True,
    )  # fmt: skip
    waiting = dict(enumerate(submitted))
    told = time.monotonic()
    try:
        while waiting:
            states = _states(arrays)
            for number, job in list(waiting.items()):
                outcome = _outcome(job, states)
                if outcome is not None:
                    del waiting[number]
                    yield number, outcome
            if time.monotonic() - told > EVERY_S and waiting:
                told = time.monotonic()
                running = sum(state == "RUNNING" for state in (states or {}).values())
                console.print(f"{running} jobs run, {len(waiting) - running} wait")
            if waiting:
                time.sleep(POLL_S)
    except Interrupted:
        left = list(dict.fromkeys(job.job_id.partition("_")[0] for job in waiting.values()))
        console.print(f"The jobs go on. To cancel them: scancel {' '.join(left)}")
        raise


def _submit(tasks: Sequence[Task], config: LauncherConfig, place: Path) -> list[_Submitted]:
    try:
        import submitit
    except ImportError as error:
        raise UserError("launcher=slurm needs submitit: pip install 'rrsis-bench[slurm]'.") from error
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("launcher=slurm found no sbatch and srun. Run this command on a login node of the cluster.")
    asked = {
        "partition": config.partition, "account": config.account, "qos": config.qos, "constraint": config.constraint,
        "mem": None if config.mem_gb is None else f"{round(config.mem_gb * 1024)}M",
        "gpus_per_node": config.gpus_per_node or None, "setup": list(config.setup) or None,
    }  # fmt: skip
    found: list[_Submitted] = []
    try:
        executor = submitit.SlurmExecutor(place, max_num_timeout=config.requeues)
        executor.update_parameters(
            job_name="rrsis-bench",
            time=config.minutes,
            nodes=config.nodes,
            ntasks_per_node=config.tasks_per_node,
            cpus_per_task=config.cpus_per_task,
            signal_delay_s=config.signal_s,
            array_parallelism=config.parallel,
            stderr_to_stdout=True,
            additional_parameters={"requeue": True, **(config.options or {})},
            srun_args=["--cpus-per-task", str(config.cpus_per_task)],  # sbatch does not hand it on
            **{name: value for name, value in asked.items() if value is not None},
        )
        for first in range(0, len(tasks), ARRAY):
            chunk = tasks[first : first + ARRAY]
            outcomes = [place / f"outcome-{first + index}.json" for index in range(len(chunk))]
            with executor.batch():
                jobs = [
                    executor.submit(SlurmJob(task.call, outcome, config.requeues))
                    for task, outcome in zip(chunk, outcomes, strict=True)
                ]
            found += [
                _Submitted(task, str(job.job_id), Path(job.paths.stdout), outcome)
                for task, job, outcome in zip(chunk, jobs, outcomes, strict=True)
            ]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"SLURM refused the jobs: {text[-400:]}. See `rrsis-bench config launcher`.") from error
    return found


def _states(arrays: Sequence[str]) -> dict[str, str] | None:
    """Return job -> state of the jobs in the queue; None if SLURM does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(arrays)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def _outcome(job: _Submitted, states: dict[str, str] | None) -> dict[str, Any] | None:
    """Return the outcome of a job; None while there is none."""
    if job.outcome.is_file():
        try:
            found = parse_json(job.outcome.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return {"error": f"{job.outcome} cannot be read: {reason(error)}"}
        return found if isinstance(found, dict) else {"error": f"{job.outcome} holds no object"}
    if states is None or job.job_id in states:
        job.absent = 0
        return None
    job.absent += 1
    if job.absent < LOST:
        return None
    return {"error": f"The job {job.job_id} ended without a result: it was cancelled or failed. Its log: {job.log}"}
