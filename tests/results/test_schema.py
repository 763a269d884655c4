from __future__ import annotations

import json

import pytest

from rrsis_bench import codec
from rrsis_bench.errors import UserError
from rrsis_bench.results.record.schema import Record
from tests.fakes.records import LAVT, random_table, record_of


def test_a_record_round_trips():
    table = random_table(30, no_target=True, languages=("en", "zh"), categories=("储罐", None, "ship"))
    for record in (
        record_of(table), record_of(table, dataset_card=None),
        record_of(table, protocol=LAVT, limit={"train": 5}, notes=["a", "b"]),
        record_of(None, status="nan", n=0, n_expected=None, epochs=None, git_dirty=None),
    ):  # fmt: skip
        text = codec.dumps(record)
        assert codec.loads(Record, text, "x") == record
        assert codec.dumps(codec.loads(Record, text, "x")) == text


def test_a_record_reads_like_its_paths():
    data = json.loads(codec.dumps(record_of(random_table(30))))
    scores = data["overall"]["scores"]
    assert 0 < scores["miou"]["lo"] < scores["miou"]["value"] < scores["miou"]["hi"] < 100
    assert data["control"]["shuffled_text"]["scores"]["miou"]["value"] == 12.5
    assert data["per_category"]["储罐"]["n"] == 10
    assert data["per_size"]["pixels"]["small"]["scores"].keys() == data["per_category"]["储罐"]["scores"].keys()
    assert data["protocol"]["name"] == "native"
    assert scores["nacc"]["value"] is None


def broken(change):
    data = json.loads(codec.dumps(record_of(random_table(10))))
    change(data)
    return data


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.pop("seed"), "missing field: seed"),
    (lambda d: d.update(iou=1), "unknown field: iou"),
    (lambda d: d["overall"].pop("union"), r"missing field: overall\.union"),
    (lambda d: d["overall"]["scores"]["miou"].update(value="44"), r"overall\.scores\.miou\.value is '44'"),
    (lambda d: d["overall"].update(union=1.5), r"overall\.union is 1\.5; expected an integer"),
    (lambda d: d["overall"]["scores"]["miou"].update(lo=True), r"\.lo is True; expected a finite number"),
    (lambda d: d["overall"]["scores"].update(miou={"value": float("nan"), "lo": 0, "hi": 1}), r"miou\.value is nan"),
    (lambda d: d.update(seed=False), "seed is False; expected an integer"),
    (lambda d: d.update(n=None), "n is None; expected an integer"),
    (lambda d: d.update(status="done"), "status is 'done'; expected one of: finished"),
    (lambda d: d.update(control=[1]), r"control is \[1\]; expected dict"),
    (lambda d: d["control"].update(x=3), r"control\.x is 3; expected an object"),
    (lambda d: d["per_size"]["share"].update(x={"n": 1}), r"missing field: per_size\.share\.x\.n_targeted"),
    (lambda d: d.update(notes="x"), "notes is 'x'; expected list"),
    (lambda d: d["dataset_card"].pop("licence"), r"missing field: dataset_card\.licence"),
    (lambda d: d["dataset_card"].update(samples={"train": "8"}), r"samples\.train is '8'; expected an integer"),
    (lambda d: d["protocol"].update(threshold=1), r"unknown field: protocol\.threshold"),
    (lambda d: d["protocol"].update(empty="nan"), "is not one of|expected one of"),
])  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(UserError, match=message):
        codec.decode(Record, broken(change), "r.json")


def test_all_defects_come_in_one_message():
    data = broken(lambda d: (d.pop("seed"), d.update(size=7)))
    with pytest.raises(UserError, match=r"^r\.json .*:\n  missing field: seed\n  size is 7"):
        codec.decode(Record, data, "r.json")
    with pytest.raises(UserError, match=r"r\.json is not JSON"):
        codec.loads(Record, "{", "r.json")
    with pytest.raises(UserError, match="is 3; expected an object"):
        codec.loads(Record, "3", "r.json")


def test_not_a_number_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.dumps(record_of(random_table(10), wall_s=float("nan")))
