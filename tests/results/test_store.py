from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.scores import Score
from rrsis_bench.results.record import store
from rrsis_bench.results.record.invariants import violations
from tests.fakes.records import LAVT, NATIVE, flat, random_table, record_of, row, table_of


@pytest.fixture
def table() -> CountsTable:
    return random_table(40, no_target=True)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_record_stands_where_it_belongs_with_its_integers(tmp_path, table):
    record = record_of(table)
    path = store.write(tmp_path, record, table)
    assert path == tmp_path / "records/synthetic/lavt/lavt-synthetic-tiny-s0-0123abcd.json"
    assert list(files(path.parent)) == sorted([store.read(path).counts.file, path.name])
    (stored,) = store.read_all(tmp_path)
    assert stored == dataclasses.replace(record, counts=stored.counts)
    assert stored.counts.n == 40
    assert store.read_counts(path).rows == table.rows
    assert store.find(tmp_path, record.run_id) == path
    assert store.find(tmp_path, "nothing") is None


def test_a_record_is_immutable(tmp_path, table):
    record = record_of(table)
    path = store.write(tmp_path, record, table)
    before = files(tmp_path)
    assert store.write(tmp_path, record, table) == path, "the same record again is no change"
    other = random_table(40, seed=9)
    with pytest.raises(UserError, match="holds another record of this run.*force=true"):
        store.write(tmp_path, record_of(other), other)
    assert files(tmp_path) == before
    store.write(tmp_path, record_of(other), other, force=True)
    assert store.read_counts(path).rows == other.rows


def test_an_interrupted_write_leaves_nothing(tmp_path, table, monkeypatch):
    """The disk fails at each system call in turn; afterwards there is no file, or both that stood there before."""
    for call in ("fsync", "replace", "open"):
        for force in (False, True):
            root = tmp_path / f"{call}{force}"
            if force:
                store.write(root, record_of(table), table)
            before = files(root)
            target, name = (Path, "open") if call == "open" else (os, call)
            with monkeypatch.context() as patch:
                patch.setattr(target, name, _raise)
                other = random_table(40, seed=9)
                with pytest.raises(UserError, match="could not be written: No space left"):
                    store.write(root, record_of(other), other, force=True)
            assert files(root) == before, call


def _raise(*_args, **_kwargs):
    raise OSError(28, "No space left on device", "the/file")


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path, table, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(tmp_path, record_of(table), table)
    assert files(tmp_path) == {}


def test_the_record_appears_after_its_integers(tmp_path, table, monkeypatch):
    """A kill between the two renames leaves integers without a record, which nothing reads."""
    done = []
    replace = os.replace

    def once(source, target):
        if done:
            raise OSError(5, "killed here")
        done.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(UserError):
        store.write(tmp_path, record_of(table), table)
    assert [name[:32] for name in done] == ["lavt-synthetic-tiny-s0-0123abcd-"], "named by its content"
    assert store.read_all(tmp_path) == []


@pytest.mark.parametrize("change", [{"run_id": "../x"}, {"data": ""}, {"model": "a/b"}, {"model": ".hidden"}])
def test_names_are_plain_file_names(tmp_path, table, change):
    with pytest.raises(UserError, match="cannot name a file"):
        store.write(tmp_path, record_of(table, **change), table)
    assert files(tmp_path) == {}


def test_a_run_that_scored_nothing_has_a_record_without_figures(tmp_path, table):
    record = record_of(None, status="nan", n=0, n_expected=40)
    path = store.write(tmp_path, record, None)
    assert store.read(path) == record
    with pytest.raises(UserError, match="ended as 'nan' before it was scored"):
        store.read_counts(path)
    with pytest.raises(UserError, match="no counts file"):
        store.write(tmp_path, record_of(table), None, force=True)
    store.write(tmp_path, record_of(table), table, force=True)
    store.write(tmp_path, record, None, force=True)
    assert list(files(path.parent)) == [path.name], "integers of a replaced record are gone"


def test_damage_is_found_and_named(tmp_path, table):
    path = store.write(tmp_path, record_of(table), table)
    packed, text = path.with_name(store.read(path).counts.file), path.read_text()
    good = packed.read_bytes()
    for bad in (good[:-1], good[:50] + bytes([good[50] ^ 1]) + good[51:]):
        packed.write_bytes(bad)
        with pytest.raises(UserError, match="csv.gz does not match the sha256"):
            store.read_all(tmp_path)
    packed.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        store.read_all(tmp_path)
    packed.write_bytes(good)
    for bad, message in (
        (text[:200], "cannot be read"),
        (text.replace('"schema_version": 2', '"schema_version": 0'), "schema version 0; this suite reads version 2"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=message):
            store.read_all(tmp_path)
    path.write_text(text)
    moved = path.with_name("other.json")
    path.rename(moved)
    with pytest.raises(UserError, match="holds the record synthetic/lavt/"):
        store.read_all(tmp_path)


def edit(path: Path, metric: str, value: float) -> None:
    data = json.loads(path.read_text())
    data["overall"]["scores"][metric]["value"] = value
    path.write_text(json.dumps(data))


def test_an_edited_score_is_found(tmp_path, table):
    """Scores that break an invariant are found on reading, all others by deriving them from the integers again."""
    path = store.write(tmp_path, record_of(table), table)
    assert store.audit(tmp_path) == 1
    edit(path, "miou", 99.0)
    with pytest.raises(UserError, match="synthetic/lavt/lavt-synthetic-tiny-s0-0123abcd contradicts itself"):
        store.read_all(tmp_path)
    store.write(tmp_path, record_of(table), table, force=True)
    edit(path, "nacc", 50.0)
    store.read_all(tmp_path)
    with pytest.raises(UserError, match=r"does not follow from its counts file:\n  overall.nacc is 50"):
        store.audit(tmp_path)


def test_figures_of_other_integers_are_refused(tmp_path, table):
    with pytest.raises(UserError, match="does not follow from its counts file"):
        store.write(tmp_path, record_of(table), random_table(40, seed=9))
    with pytest.raises(UserError, match="n is 40, but the counts file has 30 rows"):
        store.write(tmp_path, record_of(table), CountsTable(table.rows[:30]))
    assert files(tmp_path) == {}


def changed(record, metric: str, **fields):
    """The record with another value or interval of a metric over the whole split."""
    scores = record.overall.scores
    scores = scores | {metric: dataclasses.replace(scores[metric], **fields)}
    return dataclasses.replace(record, overall=dataclasses.replace(record.overall, scores=scores))


def test_every_invariant_can_fail(tmp_path, table):
    path = store.write(tmp_path, record_of(table), table)
    valid = store.read(path)
    assert violations(valid) == []
    m, categories = flat(valid.overall), valid.per_category
    ship = categories["ship"]
    one_more = categories | {"ship": dataclasses.replace(ship, intersection=ship.intersection + 1)}
    high = ship.scores | {"miou": Score(ship.value("miou") + 1)}
    better = categories | {"ship": dataclasses.replace(ship, scores=high)}
    few = {"en": dataclasses.replace(ship, n=16)}
    floor = 0.5 * m.pr50 + 0.1 * (m.pr60 + m.pr70 + m.pr80 + m.pr90)
    bad = {
        "exceeds pr60": changed(valid, "pr70", value=m.pr60 + 1),
        "that Pr@X allows": changed(valid, "miou_targeted", value=floor - 1),
        "intersection over per_category sums to": dataclasses.replace(valid, per_category=one_more),
        "the sums over per_category give oIoU": changed(valid, "oiou", value=m.oiou + 1e-6),
        "per_category, weighted by n, gives mIoU": dataclasses.replace(valid, per_category=better),
        "overall macro_miou is": changed(valid, "macro_miou", value=m.macro_miou + 1e-6),
        "n over per_language sums to 16": dataclasses.replace(valid, per_language=few),
        "n over per_size.share sums": dataclasses.replace(valid, per_size={"share": few}),
        "nacc = -1.0 is not a percentage": changed(valid, "nacc", value=-1.0),
        r"the interval of miou is \[90.0": changed(valid, "miou", lo=90.0, hi=10.0),
        r"the interval of oiou is \[None": changed(valid, "oiou", lo=None),
        "Pr@X and the mean IoU": changed(valid, "pr80", value=None),
        "the scores per category are missing": dataclasses.replace(valid, per_category={}),
        "but the counts file has 40 rows": dataclasses.replace(valid, n=41),
        "but overall.n is 41": dataclasses.replace(valid, overall=dataclasses.replace(valid.overall, n=41)),
        "no counts file": dataclasses.replace(valid, counts=None),
    }
    for message, record in bad.items():
        assert any(re.search(message, line) for line in violations(record)), (message, violations(record))


def test_both_sides_of_the_bound_on_the_mean():
    """Perfect masks above every threshold sit at the ceiling, masks at IoU 0.5 exactly on the floor."""
    for rows in ([row(10, 10)] * 3, [row(5, 10)] * 3, [row(9, 10)] * 3, [row(0, 10, 5, 5)] * 3):
        table = table_of(*rows)
        for protocol in (NATIVE, LAVT):
            record = record_of(table, protocol=protocol)
            counts = store.CountsFile("x.csv.gz", "0" * 64, 3)
            assert violations(dataclasses.replace(record, counts=counts)) == []


def test_scoring_again_needs_no_model(tmp_path, table):
    record = record_of(table)
    path = store.write(tmp_path, record, table)
    again = store.rescore(store.read(path), store.read_counts(path), resamples=50)
    assert again == dataclasses.replace(record, counts=again.counts, rescored_from=record.metric_version)
    store.write(tmp_path, again, table, force=True)
    rules = dataclasses.replace(NATIVE, strict=True, empty="zero")
    strict = store.rescore(store.read(path), table, rules, resamples=50)
    assert strict.value("miou") < record.value("miou")
    assert strict.control == {}, "the controls were scored by other rules"
    assert strict.eval_hash != record.eval_hash
    with pytest.raises(UserError, match="'lavt' needs other masks"):
        store.rescore(record, table, LAVT)


def test_the_integers_are_plain_csv(tmp_path, table):
    path = store.write(tmp_path, record_of(table), table)
    lines = gzip.decompress(path.with_name(store.read(path).counts.file).read_bytes()).decode().splitlines()
    assert lines[0].split(",")[:4] == ["sample_id", "image_id", "category", "language"]
    assert len(lines) == 41


def test_a_record_that_is_nested_too_deeply_is_one_sentence(tmp_path):
    path = tmp_path / "records" / "d" / "m" / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"r\.json cannot be read: it is nested too deeply"):
        store.read(path)
