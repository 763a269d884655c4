"""`predictions=save` and `rrsis-bench score`: masks that leave the suite come back as the same row."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.predictions import file_name
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run import bench as harness
from rrsis_bench.run import plan
from rrsis_bench.run import score as scorer
from rrsis_bench.run.evaluate import evaluate
from tests.fakes.config import parsed, tiny_overrides
from tests.fakes.rrsisd import write_fake_rrsisd

COUNTS = "data.counts={train: 8, val: 4, test: 4}"
TIMES = {"started_utc": "", "wall_s": 0.0}  # the only fields that differ between two scorings of the same masks


@pytest.fixture(scope="module", autouse=True)
def clean_commit() -> Iterator[None]:
    """Rows of a dirty tree are not ranked: whether the tests' own tree is dirty must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, scorer):
            patch.setattr(module, "git_state", lambda *_: ("c" * 40, False))
        yield


def configure(tmp_path: Path, root: Path, *overrides: str) -> Config:
    return parsed("model=lavt", *tiny_overrides(tmp_path, root), "controls=false", "train.epochs=1", *overrides)


@pytest.fixture(scope="module")
def saved(fake_root, tmp_path_factory) -> SimpleNamespace:
    """A finished run with its predictions, on the tree at `root`."""
    tmp_path = tmp_path_factory.mktemp("saved")
    console = Terminal(file=io.StringIO(), width=200)
    harness.bench(configure(tmp_path, fake_root, "predictions=save"), console)
    (record,) = store.read_all(tmp_path / "leaderboards")
    run_dir = tmp_path / "runs" / record.run_id
    return SimpleNamespace(
        tmp_path=tmp_path, root=fake_root, record=record, run_dir=run_dir, shown=console.file.getvalue(),
        file=run_dir / "predictions" / "test.jsonl",
    )  # fmt: skip


def score(tmp_path: Path, root: Path, source: Path, *options: str, name: str = "outsider") -> int:
    """The verb itself; the dataset's counts are the tree's unless `options` end with others."""
    arguments = ["score", "--data", "rrsisd", "--data-root", str(root), "--predictions", str(source), "--name", name]
    folders = ["--leaderboards", str(tmp_path / "leaderboards"), "--runs", str(tmp_path / "runs")]
    return cli.main([*arguments, *folders, *options, COUNTS])


def stored(tmp_path: Path, name: str = "outsider") -> tuple[Record, CountsTable]:
    (path,) = (tmp_path / "leaderboards" / "records" / "rrsisd" / name).glob("*.json")
    return store.read(path), store.read_counts(path)


def ranking(tmp_path: Path) -> tuple[str, str]:
    """Rank and reason of the only row."""
    with (tmp_path / "leaderboards" / "rrsisd.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row["rank"], row["reason"]


def test_saved_predictions_score_as_the_run_did(saved, tmp_path):
    assert score(tmp_path, saved.root, saved.file, "--selected-on", "val") == 0
    record, table = stored(tmp_path)
    own = store.record_path(saved.tmp_path / "leaderboards", "rrsisd", "lavt", saved.record.run_id)
    assert table == store.read_counts(own)
    assert any(row.pred_area for row in table), "masks without a pixel show nothing"
    assert record.overall == saved.record.overall
    assert (record.per_category, record.per_size) == (saved.record.per_category, saved.record.per_size)
    assert (record.dataset_fingerprint, record.n, record.n_expected) == (saved.record.dataset_fingerprint, 4, 4)


def test_the_saved_file_has_a_line_per_sample_in_order(saved):
    lines = [json.loads(line) for line in saved.file.read_text().splitlines()]
    own = store.record_path(saved.tmp_path / "leaderboards", "rrsisd", "lavt", saved.record.run_id)
    assert [line["sample_id"] for line in lines] == [row.sample_id for row in store.read_counts(own)]
    assert all(set(line) == {"sample_id", "rle"} and line["rle"]["size"] == [64, 64] for line in lines)
    assert [path.name for path in saved.file.parent.iterdir() if path.suffix != ".png"] == ["test.jsonl"]
    assert saved.record.predictions_sha256 is None
    assert str(saved.file) in saved.shown.replace("\n", "")


def test_the_record_says_where_the_masks_come_from(saved, tmp_path):
    score(tmp_path, saved.root, saved.file, "--selected-on", "val")
    record, _ = stored(tmp_path)
    assert (record.model, record.model_source, record.size, record.seed) == (
        "outsider",
        "predictions",
        "external",
        None,
    )
    assert (record.weights_sha256, record.epochs, record.variant, record.init_weights) == (None, None, [], {})
    assert (record.efficiency, record.control, record.limit) == (Efficiency(), {}, None)
    assert (record.selection_split, record.selection_metric, record.precision) == ("val", None, "")
    assert record.notes == ["outside predictions, selection declared by the submitter"]
    assert len(record.predictions_sha256) == 64
    assert record.train_hash not in (record.eval_hash, record.predictions_sha256)
    assert record.run_id == f"outsider-rrsisd-external-{record.eval_hash[:8]}"
    assert str(tmp_path) not in json.dumps(dataclasses.asdict(record), default=str)
    assert store.audit(tmp_path / "leaderboards") == 1


def test_png_and_rle_of_the_same_masks_give_identical_records(saved, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for line in map(json.loads, saved.file.read_text().splitlines()):
        mask_HW = masks.decode(masks.parse(line["rle"]))
        Image.fromarray(mask_HW).convert("L").save(folder / file_name(line["sample_id"]))
    for form, source in (("rle", saved.file), ("png", folder)):
        assert score(tmp_path / form, saved.root, source, "--selected-on", "val") == 0
    (one, table), (two, other) = stored(tmp_path / "rle"), stored(tmp_path / "png")
    assert dataclasses.replace(one, **TIMES) == dataclasses.replace(two, **TIMES)
    assert table == other


def test_only_a_declared_selection_other_than_test_is_ranked(saved, tmp_path):
    reasons = {}
    for declared in ((), ("--selected-on", "test"), ("--selected-on", "val")):
        folder = tmp_path / "-".join(declared)
        assert score(folder, saved.root, saved.file, *declared) == 0
        reasons[declared[1:]] = ranking(folder)
    assert reasons == {
        (): ("", "unknown how the checkpoint was selected"),
        ("test",): ("", "checkpoint selected on test"),
        ("val",): ("1", ""),
    }


def test_a_name_or_another_mask_is_another_run_and_a_record_stays(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    score(tmp_path, saved.root, saved.file)
    score(tmp_path, saved.root, saved.file, name="other")
    first, second = stored(tmp_path)[0], stored(tmp_path, "other")[0]
    assert first.predictions_sha256 == second.predictions_sha256
    assert first.train_hash != second.train_hash
    assert first.eval_hash != second.eval_hash
    capsys.readouterr()
    assert score(tmp_path, saved.root, saved.file, "--selected-on", "val") == 0
    assert "already hold" in capsys.readouterr().out
    assert stored(tmp_path)[0] == first, "the declaration came too late"
    assert score(tmp_path, saved.root, saved.file, "--selected-on", "val", "--force") == 0
    assert stored(tmp_path)[0].selection_split == "val"
    assert score(tmp_path, saved.root, saved.file, "protocol.strict=true") == 0
    hashes = {record.eval_hash for record in store.read_all(tmp_path / "leaderboards")}
    assert len(hashes) == 3, "another rule is another record"


def test_the_protocol_reaches_the_score(saved, tmp_path):
    assert score(tmp_path, saved.root, saved.file, "--protocol", "lavt", "protocol.resolution=native") == 0
    record, _ = stored(tmp_path)
    assert (record.protocol.name, record.protocol.empty, record.protocol.resolution) == ("lavt", "zero", "native")


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (("--protocol", "lavt"), "outsider", "come at native size"),
        (("--protocol", "nativ"), "outsider", "Unknown protocol 'nativ'. Did you mean native"),
        (("--data", "rrsis-d"), "outsider", "Unknown dataset 'rrsis-d'. Did you mean rrsisd"),
        ((), "LAVT", "'lavt' is a model of this suite"),
        ((), "a/b", "cannot name a file"),
        (("train.lr=1",), "outsider", "'train.lr=1' affects no score"),
        (("data.nonsense=1",), "outsider", "no field 'data.nonsense'"),
    ],
)
def test_what_cannot_be_scored_is_a_message(saved, tmp_path, capsys, options, name, message):
    assert score(tmp_path, saved.root, saved.file, *options, name=name) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "leaderboards").exists()


def test_predictions_that_do_not_fit_leave_no_record(saved, tmp_path, capsys):
    first, *others = saved.file.read_text().splitlines()
    source = tmp_path / "p.jsonl"
    source.write_text("\n".join(others))
    assert score(tmp_path, saved.root, source) == 2
    assert f"missing (1 samples without a prediction): '{json.loads(first)['sample_id']}'" in capsys.readouterr().err
    assert not (tmp_path / "leaderboards").exists()
    assert not list((tmp_path / "runs").glob("outsider*"))


def test_a_limited_or_incomplete_split_is_not_ranked(saved, tmp_path):
    source = tmp_path / "p.jsonl"
    source.write_text("".join(saved.file.read_text().splitlines(keepends=True)[:2]))
    options = ("--selected-on", "val", "limit.test=2")
    assert score(tmp_path, saved.root, source, *options) == 0
    assert ranking(tmp_path)[1] == "limited to 2 test samples; 2 of 4 samples"


def test_only_the_split_that_is_scored_has_to_be_there(tmp_path, capsys):
    tree = write_fake_rrsisd(tmp_path / "data")
    tree.refs = [ref for ref in tree.refs if ref["split"] == "test"]
    tree.write()
    source = tmp_path / "p.jsonl"
    lines = []
    for ref in tree.refs:
        rle = masks.encode(tree.masks[ref["ref_id"]])
        lines.append({"sample_id": f"{ref['ref_id']:05d}", "rle": {**rle, "counts": rle["counts"].decode()}})
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert score(tmp_path, tree.root, source) == 0
    assert "fingerprint is unknown" in capsys.readouterr().out
    record, _ = stored(tmp_path)
    assert (record.value("miou"), record.dataset_fingerprint) == (100.0, None)
    assert record.notes == ["outside predictions", "dataset fingerprint unknown: another split could not be read"]
    assert score(tmp_path, tree.root, source, "--split", "val") == 2
    assert "val" in capsys.readouterr().err


def test_evaluate_saves_them_where_the_gallery_finds_them(saved, tmp_path):
    shutil.copytree(saved.run_dir, run := tmp_path / "runs" / saved.run_dir.name)
    masks = run / "predictions" / "test.jsonl"
    masks.unlink()
    overrides = [f"checkpoint={run}", "predictions=save", f"leaderboards={tmp_path / 'leaderboards'}"]
    evaluate(parsed(*overrides), Terminal(file=io.StringIO(), width=200), overrides)
    assert masks.read_bytes() == saved.file.read_bytes()
    assert cli.main(["gallery", run.name, "--runs", str(run.parent)]) == 0


def test_a_finished_run_without_predictions_says_how_to_get_them(saved, tmp_path):
    for part in ("runs", "leaderboards"):
        shutil.copytree(saved.tmp_path / part, tmp_path / part)
    console = Terminal(file=io.StringIO(), width=200)
    config = configure(tmp_path, saved.root, "predictions=save")
    harness.bench(config, console)
    assert "not saved" not in console.file.getvalue()
    (tmp_path / "runs" / saved.record.run_id / "predictions" / "test.jsonl").unlink()
    harness.bench(config, console)
    shown = " ".join(console.file.getvalue().split())
    assert "not saved" in shown
    assert f"checkpoint={tmp_path / 'runs' / saved.record.run_id}" in shown.replace(" ", "")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("predictions=all",), "predictions is 'all'"),
        (("predictions=save", "protocol=lavt"), "predictions=save writes masks at native size"),
    ],
)
def test_predictions_that_cannot_be_saved_are_refused_before_training(saved, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        harness.bench(configure(tmp_path, saved.root, *overrides), Terminal(file=io.StringIO()))
    assert not list(tmp_path.glob("runs/*lavt*"))


def test_a_declared_training_set_gives_the_row_a_leakage_note(saved, tmp_path):
    options = ("--selected-on", "val", "--trained-on", "RISBench", "--trained-on", "rrsisd")
    assert score(tmp_path, saved.root, saved.file, *options) == 0
    record, _ = stored(tmp_path)
    assert record.trained_on == ["RISBench", "rrsisd"]
    assert [note for note in record.notes if "leakage" in note] == [
        "leakage: trained on RISBench, which shares images of DIOR with rrsisd"
    ]
    assert "shares images of DIOR" in (tmp_path / "leaderboards" / "rrsisd.csv").read_text()


def test_a_scored_split_has_strata_although_train_is_not_scored(saved, tmp_path):
    assert score(tmp_path, saved.root, saved.file) == 0
    record, table = stored(tmp_path)
    assert sum(group.n for group in record.per_stratum["seen"].values()) == record.n == len(table)
    assert (tmp_path / "leaderboards" / "rrsisd_per_stratum.csv").is_file()
    assert record.per_stratum == saved.record.per_stratum
