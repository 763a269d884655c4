"""Many processes write records and tables at once, and are killed: no record is lost, no file is ever a part of one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from rrsis_bench.results import leaderboards
from rrsis_bench.results.record import store
from rrsis_bench.results.render import page
from tests.fakes.records import random_table, record_of

FORK = multiprocessing.get_context("fork")
MODELS = ("csinet", "fianet", "lavt", "mrsnet", "rmsin", "sgsrf", "toy_a", "toy_b")


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    """The page without its charts: drawing takes most of the time and writes nothing."""
    monkeypatch.setattr(page, "build", lambda _, rows: "\n".join(row.label for row in rows).encode())


def tables(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


def write(root: Path, model: str, number: int, *, dataset: str = "synthetic") -> None:
    table = random_table(12, seed=number)
    record = record_of(table, model=model, seed=number, data=dataset, resamples=10)
    store.write(root, record, table)


def publish(root: Path, model: str, numbers: range, failures) -> None:
    """Enter records as `publish` of a run does; the process id is the same in all, as in containers."""
    os.getpid = lambda: 7  # noqa: B010
    for number in numbers:
        try:
            write(root, model, 100 * MODELS.index(model) + number, dataset=f"data{number % 2}")
            leaderboards.regenerate_and_rank(root)
        except BaseException as error:  # noqa: BLE001 - counted by the test
            failures.put(f"{model} {number}: {error!r}")


def loop(root: Path, stop, failures) -> None:
    while not stop.is_set():
        try:
            leaderboards.regenerate(root)
        except BaseException as error:  # noqa: BLE001
            failures.put(f"regenerator: {error!r}")
        time.sleep(0.02)  # a lock gives no turns: let the writers have it too


def race(root: Path, writers: int, records: int, regenerators: int) -> list[str]:
    """Run writers and regenerators at once; return their failures."""
    failures, stop = FORK.SimpleQueue(), FORK.Event()
    looping = [FORK.Process(target=loop, args=(root, stop, failures), daemon=True) for _ in range(regenerators)]
    writing = [FORK.Process(target=publish, args=(root, model, range(records), failures)) for model in MODELS[:writers]]
    for process in [*looping, *writing]:
        process.start()
    for process in writing:
        process.join()
    stop.set()
    for process in looping:
        process.join()
    found = []
    while not failures.empty():
        found.append(failures.get())
    return found


def check_race(tmp_path: Path, writers: int, records: int, regenerators: int) -> None:
    together, serial = tmp_path / "together", tmp_path / "serial"
    assert race(together, writers, records, regenerators) == []
    for model in MODELS[:writers]:
        for number in range(records):
            write(serial, model, 100 * MODELS.index(model) + number, dataset=f"data{number % 2}")
    leaderboards.regenerate(serial)
    assert len(store.read_all(together)) == writers * records
    assert store.audit(together) == writers * records
    assert tables(together) == tables(serial)
    assert not list(together.rglob("*.tmp"))


def test_writers_and_a_regenerator_at_once(tmp_path):
    check_race(tmp_path, 3, 4, 1)


@pytest.mark.slow
def test_eight_writers_of_25_records_and_two_regenerators(tmp_path):
    check_race(tmp_path, 8, 25, 2)


def replace_forever(root: Path, versions) -> None:
    while True:
        for record, table in versions:
            store.write(root, record, table, force=True)
            leaderboards.regenerate(root)


def check_kills(tmp_path: Path, kills: int) -> None:
    root, dice = tmp_path / "root", random.Random(0)
    versions = []
    for number in (0, 1):
        table = random_table(40, seed=number)
        versions.append((record_of(table, resamples=10), table))
    write(root, "fianet", 5, dataset="other")
    states = []
    for record, table in versions:
        store.write(root, record, table, force=True)
        leaderboards.regenerate(root)
        states.append((store.read_all(root), tables(root)))
    for _ in range(kills):
        process = FORK.Process(target=replace_forever, args=(root, versions))
        process.start()
        time.sleep(dice.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert store.read_all(root) in [records for records, _ in states]
        assert store.audit(root) == 2
        for name, content in tables(root).items():
            assert content in [files[name] for _, files in states], name
    leaderboards.regenerate(root)
    assert (store.read_all(root), tables(root)) in states


def test_a_killed_publication_leaves_the_old_or_the_new(tmp_path):
    check_kills(tmp_path, 6)


@pytest.mark.slow
def test_sixty_kills_during_publication_and_regeneration(tmp_path):
    check_kills(tmp_path, 60)


def test_a_record_written_while_the_tables_are_made_is_in_them(tmp_path, monkeypatch):
    """Bug: a regeneration that had read the records before deleted the tables of a dataset that came meanwhile."""
    write(tmp_path, "lavt", 0)
    build, calls = page.build, []

    def interleaved(root, rows):
        if not calls:
            write(tmp_path, "lavt", 0, dataset="another")
            (tmp_path / "another_per_threshold.csv").write_text("theirs")
        calls.append(1)
        return build(root, rows)

    monkeypatch.setattr(page, "build", interleaved)
    leaderboards.regenerate(tmp_path)
    assert "lavt" in (tmp_path / "another.csv").read_text()
    assert "rank" in (tmp_path / "another_per_threshold.csv").read_text()
    assert len(calls) == 2


def test_two_replacements_at_once_leave_one_whole_record(tmp_path):
    """Bug: the counts file had the run's name, so that a record could be beside another one's integers."""
    tables_of = [random_table(40, seed=number) for number in (0, 1)]
    for table in [*tables_of, tables_of[0]]:
        store.write(tmp_path, record_of(table, resamples=10), table, force=True)
        assert store.audit(tmp_path) == 1
        assert len(list(tmp_path.rglob("*.csv.gz"))) == 1
