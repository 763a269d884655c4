"""Scores by stratum on their way through records, tables, comparisons and the terminal."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest

from rrsis_bench import codec
from rrsis_bench.console import Terminal
from rrsis_bench.data.text.strata import STRATA, Training
from rrsis_bench.errors import UserError
from rrsis_bench.eval.membership import Membership
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.compare.rows import compare
from rrsis_bench.results.record import store
from rrsis_bench.results.record.identity import attestation
from rrsis_bench.results.render.terminal import board
from rrsis_bench.results.render.terminal import compare as show_compare
from tests.fakes.records import random_table, record_of

EXPRESSIONS = ("the ship on the left", "a ship", "the ship near the dock", "the airplane")


def membership():
    training = Training(["the ship on the left", "An airplane"], ["ship", "airplane"])
    return Membership.of(
        [f"s{index}" for index in range(40)], [EXPRESSIONS[index % 4] for index in range(40)], training
    )


def table_of(seed=0, quality=0.6, *, with_strata=True):
    table = random_table(40, seed=seed, quality=quality)
    table.membership = membership() if with_strata else None
    return table


def put(root, *, model="lavt", seed=0, quality=0.6, with_strata=True):
    table = table_of(seed, quality, with_strata=with_strata)
    return store.write(root, record_of(table, model=model, seed=seed), table)


def lines(root, name="synthetic_per_stratum.csv"):
    return list(csv.DictReader(io.StringIO((root / name).read_text())))


def test_a_record_keeps_its_strata_and_their_file(tmp_path):
    path = put(tmp_path)
    record = store.read(path)
    assert record.per_stratum["seen"]["seen"].n == 10
    assert list(record.per_stratum) == list(STRATA)
    file = path.parent.parent / record.strata.file
    assert file.name.startswith("strata-test-ffffffffffff-")
    assert store.read_counts(path).membership == membership()
    put(tmp_path, model="fianet", seed=1)
    assert len(list(tmp_path.rglob("strata-*"))) == 1, "one file for all records of the split"
    assert store.audit(tmp_path) == 2
    file.unlink()
    with pytest.raises(UserError, match=file.name):
        store.read_counts(path)


@pytest.mark.parametrize("edit", ["value", "n", "file"])
def test_an_edited_stratum_is_refused(tmp_path, edit):
    path = put(tmp_path)
    data = json.loads(path.read_text())
    if edit == "file":  # the same table, packed otherwise
        file = path.parent.parent / data["strata"]["file"]
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=1))
    else:
        group = data["per_stratum"]["seen"]["unseen"]
        group["scores"]["pr50"]["value"] = 1.25
        group["n"] += edit == "n"
        path.write_text(codec.dumps(data))
    with pytest.raises(UserError, match="sha256" if edit == "file" else r"per_stratum\.seen"):
        store.audit(tmp_path)


def test_an_older_record_gets_its_strata_from_the_file_of_its_split(tmp_path):
    path = put(tmp_path, with_strata=False)
    before = path.read_bytes()
    assert "strata" not in before.decode()
    old = attestation([store.read(path)])
    leaderboards.regenerate(tmp_path)
    assert not (tmp_path / "synthetic_per_stratum.csv").exists()
    written = store.write_membership(tmp_path, "synthetic", "test", "f" * 64, membership())
    leaderboards.regenerate(tmp_path)
    found = {(line["stratum"], line["class"]): line for line in lines(tmp_path)}
    expected = store.read(put(tmp_path / "new")).per_stratum
    for stratum, groups in expected.items():
        for name, group in groups.items():
            line = found[stratum, name]
            assert line["n"] == str(group.n)
            assert line["miou"] == f"{group.value('miou'):.2f}"
            assert line["macro_miou"] == f"{group.value('macro_miou'):.2f}"
            assert line["miou_lo"] != ""
    assert (path.read_bytes(), attestation([store.read(path)])) == (before, old)
    assert store.audit(tmp_path) == 1
    written.unlink()
    leaderboards.regenerate(tmp_path)
    assert not (tmp_path / "synthetic_per_stratum.csv").exists()


def test_strata_of_another_copy_of_the_data_are_not_used(tmp_path):
    put(tmp_path, with_strata=False)
    store.write_membership(tmp_path, "synthetic", "test", "a" * 64, membership())
    store.write_membership(tmp_path, "synthetic", "val", "f" * 64, membership())
    assert rank(store.read_all(tmp_path), tmp_path)[0].names("per_stratum") == []


def test_a_row_of_an_old_and_a_new_seed_has_the_mean_of_both(tmp_path):
    put(tmp_path, seed=0, with_strata=False)
    put(tmp_path, seed=1)
    row = rank(store.read_all(tmp_path), tmp_path)[0]
    one, two = row.values("per_stratum", "seen", "unseen", "scores", "miou", "value")
    for seed, value in ((0, one), (1, two)):
        ious = [entry.intersection / entry.union if entry.union else 0.0 for entry in table_of(seed)]
        unseen = [iou for index, iou in enumerate(ious) if index % 4 != 0]
        assert value == pytest.approx(100 * sum(unseen) / len(unseen))
    assert one != two
    assert row.score("miou", "per_stratum", "seen", "unseen").value == pytest.approx((one + two) / 2)


def test_a_comparison_has_a_family_per_stratum(tmp_path):
    put(tmp_path, model="lavt", quality=0.2)
    put(tmp_path, model="fianet", quality=0.9)
    result = compare(tmp_path, "lavt", "fianet", "synthetic", resamples=200)
    groups = {group.name: group for group in result.families["sentence in train"]}
    assert {name: group.n for name, group in groups.items()} == {"seen": 10, "unseen": 30}
    tables = [table_of(0, quality) for quality in (0.2, 0.9)]
    means = []
    for table in tables:
        ious = [r.intersection / r.union for i, r in enumerate(table) if i % 4 != 0 if r.union]
        means.append(100 * sum(ious) / sum(1 for i in range(40) if i % 4 != 0))
    score = groups["unseen"].miou
    assert (score.a, score.b) == pytest.approx(tuple(means))
    assert score.test.low <= score.gap <= score.test.high
    assert "all" not in result.families
    console = Terminal(file=io.StringIO(), width=110)
    show_compare.comparison(console, result)
    assert "mIoU by sentence in train" in console.file.getvalue()
    assert "sentence in train,unseen,30,miou," in show_compare.comparison_csv(result)


def test_the_terminal_shows_class_balanced_miou_beside_miou(tmp_path):
    put(tmp_path)
    console = Terminal(file=io.StringIO(), width=120)
    rows = rank(store.read_all(tmp_path), tmp_path)
    board.breakdown(console, rows, "strata")
    text = console.file.getvalue()
    assert f"{rows[0].score('macro_miou').value:.1f}" in text
    for stratum in list(STRATA.values())[1:]:
        assert f"mIoU by {stratum.label}" in text


def test_the_page_links_and_shows_the_strata(tmp_path):
    put(tmp_path)
    leaderboards.regenerate(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert 'href="synthetic_per_stratum.csv"' in text
    assert "no position word" in text
    put(tmp_path / "old", with_strata=False)
    leaderboards.regenerate(tmp_path / "old")
    assert "per_stratum" not in (tmp_path / "old" / "index.html").read_text()
