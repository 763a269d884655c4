"""One run from the fake dataset to the leaderboards, in this process; and what a second, a forced, a limited one do."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rrsis_bench import cli, registry
from rrsis_bench.config import hashes as hashing
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.scores import CONTROLS
from rrsis_bench.files import sha256_file
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run import bench as harness
from rrsis_bench.run import plan
from rrsis_bench.run import record as recording
from rrsis_bench.train import checkpoint, loop
from rrsis_bench.train.loop import NonFiniteLoss
from tests.fakes.config import parsed, tiny_overrides
from tests.fakes.rrsisd import write_fake_rrsisd


def run(tmp_path: Path, root: Path, *overrides: str) -> tuple[str, Config]:
    """Bench the narrow FIANet on the tree at `root`; returns (what was printed, the configuration)."""
    config = parsed("model=fianet", *tiny_overrides(tmp_path, root), *overrides)
    console = Terminal(file=io.StringIO(), width=220)
    harness.bench(config, console)
    return console.file.getvalue(), config


def records(tmp_path: Path) -> list[Record]:
    return store.read_all(tmp_path / "leaderboards")


def integers(tmp_path: Path) -> bytes:
    (path,) = (tmp_path / "leaderboards" / "records").glob("*/*/*.csv.gz")
    return path.read_bytes()


def events(tmp_path: Path) -> list[dict[str, Any]]:
    (path,) = (tmp_path / "runs").glob("*/events.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module", autouse=True)
def clean_commit() -> Iterator[None]:
    """Rows of a dirty tree are not ranked: whether the tests' own tree is dirty must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: ("c" * 40, False))
        yield


@pytest.fixture(scope="module")
def finished(fake_root, tmp_path_factory):
    """A finished run, for the tests that only read: (its folder, what it printed, its configuration)."""
    tmp_path = tmp_path_factory.mktemp("finished")
    shown, config = run(tmp_path, fake_root)
    return tmp_path, shown, config


def test_the_record_is_complete_and_follows_from_its_integers(finished):
    tmp_path, _, config = finished
    (record,) = records(tmp_path)
    assert store.audit(tmp_path / "leaderboards") == 1
    assert (record.status, record.model, record.model_source, record.size) == ("finished", "fianet", "in-tree", "tiny")
    assert (record.n, record.n_expected, record.limit, record.split) == (4, 4, None, "test")
    assert (record.selection_split, record.selection_metric, record.epochs, record.seed) == ("val", "miou", 2, 0)
    assert record.run_id == hashing.run_id(config, record.train_hash)
    assert set(record.control) == set(CONTROLS)
    assert all(scores.n == 4 and 0 <= scores.scores["miou"].value <= 100 for scores in record.control.values())
    assert record.init_weights == {"vision": "random", "text": "random"}
    assert record.efficiency.params_total > 1000
    assert record.efficiency.input_size == {"image": 32}
    assert record.efficiency.gflops > 0
    miou = record.overall.scores["miou"]
    assert miou.lo <= miou.value <= miou.hi
    assert (record.device, record.precision, record.world_size) == ("cpu", "32-true", 1)
    assert set(record.per_category) <= {"ship", "tenniscourt", "storagetank", "tennis court", "storage tank"}


def test_the_weights_of_the_record_are_those_of_the_best_checkpoint(finished):
    tmp_path, _, _ = finished
    (record,) = records(tmp_path)
    said = manifest(tmp_path)
    best = tmp_path / "runs" / record.run_id / "checkpoints" / said["best"]
    assert said["status"] == "finished"
    assert said["weights_sha256"] == record.weights_sha256 == sha256_file(best / "model.safetensors")
    validations = [event for event in events(tmp_path) if event["event"] == "val"]
    top = max(validations, key=lambda event: event["miou"])
    assert said["best"] == checkpoint.folder(best.parent, top["step"]).name


def test_the_best_epoch_is_tested_not_the_last(fake_root, tmp_path, monkeypatch):
    falling = iter([50.0, 10.0])
    tested: dict[str, torch.Tensor] = {}
    score = recording.score_split

    def rigged(*_args, **_kwargs):
        value = next(falling)
        return SimpleNamespace(value=lambda _: value)

    def spy(model, *args, **kwargs):
        tested.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return score(model, *args, **kwargs)

    monkeypatch.setattr(harness, "compute_overall", rigged)
    monkeypatch.setattr(recording, "score_split", spy)
    run(tmp_path, fake_root, "controls=false")
    (run_dir,) = (tmp_path / "runs").glob("fianet-*")
    best, last = (checkpoint.load(checkpoint.folder(run_dir / "checkpoints", step)) for step in (2, 4))
    assert manifest(tmp_path)["best"] == best.path.name
    assert all(torch.equal(tensor, best.tensors["model"][name]) for name, tensor in tested.items())
    assert any(not torch.equal(tensor, last.tensors["model"][name]) for name, tensor in tested.items())


def test_the_tables_stand_beside_the_record_and_the_run_is_shown(finished):
    tmp_path, shown, _ = finished
    (record,) = records(tmp_path)
    written = {path.name for path in (tmp_path / "leaderboards").glob("*.csv")}
    assert written >= {"rrsisd.csv", "rrsisd_per_category.csv", "rrsisd_per_threshold.csv", "efficiency.csv"}
    assert "fianet" in (tmp_path / "leaderboards" / "rrsisd.csv").read_text()
    assert record.run_id in shown
    assert f"{record.value('miou'):.2f}" in shown


def test_the_log_tells_the_run_from_start_to_end(finished):
    tmp_path, _, _ = finished
    kinds = [event["event"] for event in events(tmp_path)]
    assert kinds.count("val") == 2
    assert kinds[-2:] == ["test", "end"]
    assert events(tmp_path)[-1]["status"] == "finished"
    (record,) = records(tmp_path)
    assert (tmp_path / "runs" / record.run_id / "config.yaml").exists()


def test_the_same_seed_gives_the_same_integers_and_another_seed_another_run(finished, fake_root, tmp_path):
    before, _, _ = finished
    run(tmp_path / "again", fake_root)
    assert integers(tmp_path / "again") == integers(before)
    (one,), (two,) = records(before), records(tmp_path / "again")
    assert (one.run_id, one.overall, one.control, one.weights_sha256, one.eval_hash) == (
        two.run_id, two.overall, two.control, two.weights_sha256, two.eval_hash,
    )  # fmt: skip
    run(tmp_path / "other", fake_root, "seed=1", "controls=false")
    (other,) = records(tmp_path / "other")
    assert other.run_id != one.run_id
    assert (other.train_hash, other.control) == (one.train_hash, {})
    assert other.weights_sha256 != one.weights_sha256


def test_a_finished_run_is_not_trained_again_until_forced(fake_root, tmp_path, monkeypatch):
    run(tmp_path, fake_root, "controls=false")
    first = integers(tmp_path)
    with monkeypatch.context() as untrainable:
        untrainable.setattr(loop.Trainer, "fit", lambda _: pytest.fail("trained again"))
        shown, _ = run(tmp_path, fake_root, "controls=false", "trainer.num_workers=1")  # the same run: no hash moves
    assert "is finished already (force=true trains it again)" in shown
    assert "fianet" in shown.partition("finished already")[2], "the table is shown all the same"
    kept = records(tmp_path)
    run(tmp_path, fake_root, "controls=false", "force=true")
    assert sum(event["event"] == "val" for event in events(tmp_path)) == 2, "a fresh folder, not the old one resumed"
    (again,) = records(tmp_path)
    assert integers(tmp_path) == first
    assert again.started_utc >= kept[0].started_utc


def test_a_deleted_leaderboard_is_filled_again_from_the_run(fake_root, tmp_path, monkeypatch):
    run(tmp_path, fake_root, "controls=false")
    (record,) = records(tmp_path)
    store.record_path(tmp_path / "leaderboards", "rrsisd", "fianet", record.run_id).unlink()
    monkeypatch.setattr(loop.Trainer, "fit", lambda _: pytest.fail("trained again"))
    run(tmp_path, fake_root, "controls=false")
    assert records(tmp_path) == [record]


def test_a_published_record_is_not_replaced_by_another_machines_run(finished, fake_root, tmp_path):
    before, _, _ = finished
    run(tmp_path, fake_root)
    path = store.record_path(tmp_path / "leaderboards", "rrsisd", "fianet", records(tmp_path)[0].run_id)
    published = json.loads(path.read_text())
    published["device_name"] = "another machine"
    path.write_text(json.dumps(published))
    for item in (tmp_path / "runs").glob("*/manifest.json"):
        item.unlink()  # this machine has not finished the run
    shown, _ = run(tmp_path, fake_root)
    assert "already hold" in shown
    assert "another machine" in shown
    assert records(tmp_path)[0].device_name == "another machine"
    assert before != tmp_path


def test_a_limited_run_says_so_and_is_another_run(finished, fake_root, tmp_path):
    run(tmp_path, fake_root, "limit={train: 4, val: 2, test: 2}", "controls=false", "train.batch_size=2")
    (record,) = records(tmp_path)
    assert (record.n, record.n_expected, record.limit) == (2, 4, {"train": 4, "val": 2, "test": 2})
    assert record.train_hash != records(finished[0])[0].train_hash
    table = (tmp_path / "leaderboards" / "rrsisd.csv").read_text()
    assert "limit" in table, "an unranked row names its reason"


def test_another_number_of_samples_than_published_warns_and_is_unranked(fake_root, tmp_path):
    overrides = ["data.counts={train: 8, val: 4, test: 5}", "controls=false", "train.epochs=1"]
    shown, _ = run(tmp_path, fake_root, *overrides)
    assert "the row will not be ranked" in shown
    (record,) = records(tmp_path)
    assert (record.n, record.n_expected) == (4, 5)


def test_the_lavt_protocol_scores_at_the_views_size(fake_root, tmp_path):
    run(tmp_path, fake_root, "protocol=lavt", "controls=false", "train.epochs=1", "model=lavt")
    (record,) = records(tmp_path)
    assert (record.protocol.name, record.selection_metric, record.model) == ("lavt", "oiou", "lavt")
    (path,) = (tmp_path / "leaderboards" / "records").glob("*/*/*.json")
    rows = list(store.read_counts(path))
    assert {row.height for row in rows} == {64}
    assert all(row.union <= 32 * 32 for row in rows)
    assert any(row.native_area > row.target_area > 0 for row in rows)


def test_a_non_finite_loss_ends_as_nan_without_a_record(fake_root, tmp_path, monkeypatch):
    real, calls = loop.SegmentationLoss.__call__, []

    def poisoned(*args):
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(loop.SegmentationLoss, "__call__", poisoned)
    with pytest.raises(NonFiniteLoss, match="step 3"):
        run(tmp_path, fake_root)
    assert manifest(tmp_path)["status"] == "nan"
    assert events(tmp_path)[-1] == {**events(tmp_path)[-1], "event": "end", "status": "nan"}
    assert not (tmp_path / "leaderboards").exists()
    monkeypatch.setattr(loop.SegmentationLoss, "__call__", real)
    run(tmp_path, fake_root)  # the same command goes on from the last good checkpoint
    assert [event["step"] for event in events(tmp_path) if event["event"] == "resumed"] == [2]
    assert manifest(tmp_path)["status"] == "finished"


def test_an_interruption_while_testing_keeps_the_training(fake_root, tmp_path, monkeypatch, finished):
    from rrsis_bench.stop import Interrupted

    def interrupted(*_args, **_kwargs):
        raise Interrupted(2)

    with monkeypatch.context() as stopped:
        stopped.setattr(recording, "score_split", interrupted)
        with pytest.raises(Interrupted):
            run(tmp_path, fake_root)
    assert manifest(tmp_path)["status"] == "interrupted"
    run(tmp_path, fake_root)
    assert sum(event["event"] == "train" for event in events(tmp_path)) == sum(
        event["event"] == "train" for event in events(finished[0])
    )
    assert integers(tmp_path) == integers(finished[0])


def test_chinese_in_an_english_vocabulary_is_refused_before_training(tmp_path):
    tree = write_fake_rrsisd(tmp_path / "data")
    for ref in tree.refs:
        if ref["split"] == "test":
            ref["sentences"][0]["raw"] = "图像左边的船"
    tree.write()
    with pytest.raises(UserError, match="another language"):
        run(tmp_path, tree.root)
    assert not list((tmp_path / "runs").glob("*/checkpoints/step-*")), "found before training, not after it"
    assert not (tmp_path / "leaderboards").exists()


class TestVerbs:
    """The other verbs read what a run has written."""

    def test_rescore_gives_the_recorded_scores(self, finished, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        tmp_path, _, _ = finished
        (record,) = records(tmp_path)
        root = str(tmp_path / "leaderboards")
        assert cli.main(["evaluate", "--rescore", record.run_id, "--leaderboards", root]) == 0
        assert "the integers give the recorded scores" in capsys.readouterr().out

    def test_rescore_of_an_unknown_run_is_a_message(self, finished, capsys):
        assert cli.main(["evaluate", "--rescore", "nobody", "--leaderboards", str(finished[0] / "leaderboards")]) == 2
        assert "no record 'nobody'" in capsys.readouterr().err

    def test_compare_prints_both_rows(self, fake_root, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        run(tmp_path, fake_root, "controls=false")
        run(tmp_path, fake_root, "controls=false", "model=lavt")
        root = str(tmp_path / "leaderboards")
        assert cli.main(["compare", "fianet", "lavt", "--data", "rrsisd", "--leaderboards", root]) == 0
        shown = capsys.readouterr().out
        assert "fianet" in shown
        assert "lavt" in shown
        found = {record.model: record.value("miou") for record in records(tmp_path)}
        assert all(f"{value:.2f}" in shown for value in found.values())

    def test_compare_with_an_unknown_model_is_a_message(self, finished, capsys):
        root = str(finished[0] / "leaderboards")
        assert cli.main(["compare", "fianet", "nobody", "--data", "rrsisd", "--leaderboards", root]) == 2
        assert "nobody" in capsys.readouterr().err

    def test_report_writes_the_tables_anew(self, finished, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        root = finished[0] / "leaderboards"
        table = root / "rrsisd.csv"
        before = table.read_bytes()
        table.unlink()
        assert cli.main(["report", "rrsisd", "--leaderboards", str(root)]) == 0
        assert table.read_bytes() == before
        assert "fianet" in capsys.readouterr().out
        assert cli.main(["report", "rrsisd", "--leaderboards", str(root), "--markdown"]) == 0
        assert "| fianet" in capsys.readouterr().out

    def test_report_of_a_dataset_without_records_is_a_message(self, finished, capsys):
        assert cli.main(["report", "synthetic", "--leaderboards", str(finished[0] / "leaderboards")]) == 2
        assert "no record of synthetic" in capsys.readouterr().err


def test_an_argument_that_does_not_fit_the_model_is_named(fake_root, tmp_path):
    with pytest.raises(UserError, match="FIANet.*wings"):
        run(tmp_path, fake_root, "+model.args.wings=2")


def test_records_carry_nothing_of_this_machines_folders(finished, fake_root):
    tmp_path, _, _ = finished
    (record,) = records(tmp_path)
    text = json.dumps(dataclasses.asdict(record), default=str)
    assert str(tmp_path) not in text
    assert str(fake_root) not in text
    assert str(registry.ROOT) not in text
