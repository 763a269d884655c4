"""A sweep and a prediction as job arrays of a real SLURM on this machine, with jobs that are preempted."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rrsis_bench.run import __main__ as run
from tests.fakes.config import tiny_overrides
from tests.predict.rasters import blobs, write_raster

from . import cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(cluster.missing()),
        reason=f"SLURM is not installed ({', '.join(cluster.missing())}). Install it with: make test-slurm "
        f"SLURM_INSTALL=1, or apt-get install {cluster.PACKAGES}",
    ),
]
PATIENCE_S = 500
LAUNCHER = ["launcher=slurm_cpu", "launcher.cpus_per_task=1", "launcher.mem_gb=null"]
# Of the tables, what differs between two runs of the same commit.
MEASURED = ("started_utc", "wall_s", "fps", "peak_mem", "latency", "attestation")  # and what begins with these


def changes(folder: Path, root: Path) -> list[str]:
    long = ["model=lavt", "train.epochs=30", "train.eval_every=15", "trainer.log_every=1", "controls=false"]
    return [*tiny_overrides(folder, root), *long]


@pytest.fixture(scope="module")
def slurm():
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, cluster.running(Path(folder)) as environment:
        yield environment


@pytest.fixture(scope="module")
def swept(slurm, fake_root, tmp_path_factory):
    """The folder of a two-cell sweep: the job of seed 0 was requeued, the one of seed 1 was warned of its end."""
    folder = tmp_path_factory.mktemp("swept")
    command = [
        sys.executable, "-m", "rrsis_bench.run", "-m", *changes(folder, fake_root), *LAUNCHER, "seed=0,1",
    ]  # fmt: skip
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**slurm, "COLUMNS": "200"}, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            array = until(lambda: ask(slurm, "squeue", "--noheader", "--format=%A")).split()[0]
            for seed, order in ((0, ["scontrol", "requeue"]), (1, ["scancel", "--signal=USR2"])):
                until(lambda seed=seed: steps(folder, seed) >= 3)
                print(f"\n{' '.join([*order, f'{array}_{seed}'])} at step {steps(folder, seed)}")
                subprocess.run([*order, f"{array}_{seed}"], env=slurm, check=True)
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
    shown = (folder / "out").read_text()
    print(shown)
    for log in sorted(folder.glob("runs/.slurm/*/*_log.out")):
        print(f"--- {log.name}\n{log.read_text()}")
    return folder, code, shown


def ask(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def until(ready: Callable[[], object]):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def events(folder: Path, seed: int) -> list[dict]:
    lines = [line for path in folder.glob(f"runs/*-s{seed}-*/events.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps(folder: Path, seed: int) -> int:
    return max((event["step"] for event in events(folder, seed) if event["event"] == "train"), default=0)


def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Every table without the columns that are measured."""
    found = {}
    for path in sorted(folder.glob("leaderboards/*.csv")):
        with path.open(encoding="utf-8") as file:
            found[path.name] = [
                {name: value for name, value in row.items() if not name.startswith(MEASURED)}
                for row in csv.DictReader(file)
            ]
    return found


def test_both_runs_finish_although_both_were_interrupted(swept):
    folder, code, shown = swept
    assert code == 0
    assert "2 of 2 runs are finished" in shown
    for seed in (0, 1):
        (path,) = folder.glob(f"runs/*-s{seed}-*/manifest.json")
        manifest = json.loads(path.read_text())
        assert manifest["status"] == "finished"
        assert len(manifest["attempts"]) == 2, "it continued in the same folder"
        (resumed,) = (event["step"] for event in events(folder, seed) if event["event"] == "resumed")
        assert resumed >= 3
        trained = [event["step"] for event in events(folder, seed) if event["event"] == "train"]
        assert trained == list(range(1, 61)), "no step was lost or done twice"


def test_the_tables_are_those_of_the_serial_sweep(swept, fake_root, tmp_path, monkeypatch):
    folder, _, _ = swept
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    assert run.main(["-m", *changes(tmp_path, fake_root), "seed=0,1"]) == 0
    for place in ("integers", "tables"):
        both = [
            {path.name: path.read_bytes() for path in root.glob("leaderboards/records/*/*/*.csv.gz")}
            if place == "integers"
            else tables(root)
            for root in (folder, tmp_path)
        ]
        assert both[0].keys() == both[1].keys() != set()
        for name in both[0]:
            assert both[0][name] == both[1][name], name
        print(f"{place}: {len(both[0])} files equal to the serial sweep's: {', '.join(sorted(both[0]))}")


def test_a_folder_is_predicted_as_an_array(swept, slurm, tmp_path):
    (path,) = swept[0].glob("runs/*-s0-*/manifest.json")
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for index in range(2):
        write_raster(scenes / f"s{index}.tif", blobs(48, 48, seed=index))
    (scenes / "broken.tif").write_bytes(b"no raster")
    command = [
        sys.executable, "-m", "rrsis_bench.cli", "predict", str(scenes), "the ship", "--run", str(path.parent), "-o",
        str(tmp_path / "out"), "--launcher", "slurm_cpu", "--launcher-set", "cpus_per_task=1",
        "--launcher-set", "mem_gb=null",
    ]  # fmt: skip
    for expected in ("predicted", "kept"):
        done = subprocess.run(
            command, cwd=tmp_path, env={**slurm, "COLUMNS": "200"}, capture_output=True, text=True, check=False
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 1
        with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
            rows = {os.path.basename(row["image"]): row["status"] for row in csv.DictReader(file)}
        assert rows == {"s0.tif": expected, "s1.tif": expected, "broken.tif": "failed"}
    assert (tmp_path / "out" / "predictions.gpkg").is_file()


def test_a_job_of_two_processes_reaches_its_time_limit_and_continues(slurm, fake_root, tmp_path, monkeypatch):
    """One process per task, as `slurm_node` starts them; SLURM's own warning, sent before the limit of a minute."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    long = ["train.epochs=1000", "train.eval_every=1000", "trainer.devices=2"]
    asked = ["launcher.tasks_per_node=2", "launcher.minutes=1", "launcher.signal_s=20", "launcher.requeues=200"]
    command = [sys.executable, "-m", "rrsis_bench.run", *changes(tmp_path, fake_root), *long]
    environment = {**slurm, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *LAUNCHER, *asked], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    for log in sorted(tmp_path.glob("runs/.slurm/*/*_log.out")):
        print(f"--- {log.name}\n{log.read_text()}")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/*-s0-*/manifest.json")
    attempts = json.loads(path.read_text())["attempts"]
    trained = [event["step"] for event in events(tmp_path, 0) if event["event"] == "train"]
    print(f"{len(attempts)} attempts, resumed at {[e['step'] for e in events(tmp_path, 0) if e['event'] == 'resumed']}")
    assert len(attempts) >= 2
    assert trained == list(range(1, 2001)), "no step was lost or done twice"
    (record,) = tmp_path.glob("leaderboards/records/*/*/*.csv.gz")
    here = tmp_path / "here"
    here.mkdir()
    serial = [sys.executable, "-m", "rrsis_bench.run", *changes(here, fake_root), *long]
    subprocess.run(serial, cwd=here, env=environment, capture_output=True, check=True)
    (expected,) = here.glob("leaderboards/records/*/*/*.csv.gz")
    assert record.read_bytes() == expected.read_bytes()


def test_a_refused_job_is_a_sentence(slurm, fake_root, tmp_path):
    command = [
        sys.executable, "-m", "rrsis_bench.run", *changes(tmp_path, fake_root), *LAUNCHER, "launcher.partition=none",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "invalid partition" in done.stderr
    assert done.stderr.count("error: SLURM refused the jobs") == 1
    assert "Traceback" not in done.stderr
