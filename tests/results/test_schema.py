from __future__ import annotations

import dataclasses
import json
from typing import get_type_hints

import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.results.record import codec, schema
from rrsis_bench.results.record.schema import Record
from tests.fakes.records import LAVT, random_table, record_of

# The frozen surface: a change here needs a new SCHEMA_VERSION and a way for old records to load.
RECORD_FIELDS = [
    "run_id", "status", "model", "model_source", "size", "data", "dataset_fingerprint", "split", "n",
    "n_expected", "limit", "seed", "epochs", "train_hash", "eval_hash", "variant", "protocol", "metric_version",
    "selection_split", "selection_metric", "weights_sha256", "predictions_sha256", "init_weights", "git_sha",
    "git_dirty", "versions",
    "device", "device_name", "world_size", "precision", "started_utc", "wall_s", "metrics", "control",
    "per_category", "per_size", "per_language", "per_target", "efficiency", "counts", "notes",
    "dataset_card", "rescored_from",
    "schema_version",
]  # fmt: skip
METRIC_FIELDS = [
    "n_targeted", "intersection", "union", "miou", "miou_lo", "miou_hi", "oiou", "oiou_lo", "oiou_hi", "pr50",
    "pr50_lo", "pr50_hi", "pr60", "pr60_lo", "pr60_hi", "pr70", "pr70_lo", "pr70_hi", "pr80", "pr80_lo",
    "pr80_hi", "pr90", "pr90_lo", "pr90_hi", "miou_targeted", "macro_miou", "macro_oiou", "nacc", "tacc",
]  # fmt: skip
EFFICIENCY_FIELDS = [
    "params_total", "params_trainable", "gflops", "gflops_batch", "input_size", "latency_ms", "fps", "batch",
    "device", "precision", "peak_mem_gb",
]  # fmt: skip


def names(cls):
    return [field.name for field in dataclasses.fields(cls)]


def test_the_schema_is_frozen():
    assert schema.SCHEMA_VERSION == 4
    assert names(schema.DatasetCard) == ["title", "source", "licence", "citation", "defects", "samples"]
    assert names(Record) == RECORD_FIELDS
    assert names(schema.Metrics) == METRIC_FIELDS
    assert names(schema.Efficiency) == EFFICIENCY_FIELDS
    assert schema.LEADERBOARD_COLUMNS[:9] == (
        "rank", "model", "variant", "size", "split", "protocol", "n_seeds", "miou", "miou_std",
    )  # fmt: skip


def test_every_metric_is_optional():
    """None is "not measured"; a metric that could not be None would have to be filled with something."""
    for cls in (schema.Metrics, schema.Efficiency):
        for name, hint in get_type_hints(cls).items():
            assert type(None) in getattr(hint, "__args__", ()), name
        assert all(value is None for value in dataclasses.asdict(cls()).values())


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
    assert 0 < data["metrics"]["miou"] < 100
    assert data["metrics"]["pr50"] >= data["metrics"]["pr90"]
    assert data["control"]["shuffled_text"]["miou"] == 12.5
    assert data["per_category"]["储罐"]["n"] == 10
    assert data["protocol"]["name"] == "native"
    assert data["metrics"]["nacc"] is None


def broken(change):
    data = json.loads(codec.dumps(record_of(random_table(10))))
    change(data)
    return data


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.pop("seed"), "missing field: seed"),
    (lambda d: d.update(iou=1), "unknown field: iou"),
    (lambda d: d["metrics"].pop("oiou"), r"missing field: metrics\.oiou"),
    (lambda d: d["metrics"].update(miou="44"), r"metrics\.miou is '44'; expected float"),
    (lambda d: d["metrics"].update(union=1.5), r"metrics\.union is 1\.5; expected int"),
    (lambda d: d["metrics"].update(miou=True), r"metrics\.miou is True; expected float"),
    (lambda d: d["metrics"].update(miou=float("nan")), r"metrics\.miou is nan"),
    (lambda d: d.update(seed=False), "seed is False; expected int"),
    (lambda d: d.update(n=None), "n is None; expected int"),
    (lambda d: d.update(status="done"), "status is 'done'; expected one of: finished"),
    (lambda d: d.update(control=[1]), r"control is \[1\]; expected dict"),
    (lambda d: d["control"].update(x=3), r"control\.x is 3; expected an object"),
    (lambda d: d["per_size"]["share"].update(x={"n": 1}), r"missing field: per_size\.share\.x\.n_targeted"),
    (lambda d: d.update(notes="x"), "notes is 'x'; expected list"),
    (lambda d: d["dataset_card"].pop("licence"), r"missing field: dataset_card\.licence"),
    (lambda d: d["dataset_card"].update(samples={"train": "8"}), r"dataset_card\.samples\.train is '8'; expected int"),
    (lambda d: d["protocol"].update(threshold=1), r"unknown field: protocol\.threshold"),
    (lambda d: d["protocol"].update(empty="nan"), "is not one of|expected one of"),
])  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(UserError, match=message):
        codec.decode(Record, broken(change), "r.json")


def test_all_defects_come_in_one_message():
    data = broken(lambda d: (d.pop("seed"), d.update(size=7)))
    with pytest.raises(UserError, match=r"^r\.json does not fit the schema:\n  missing field: seed\n  size is 7"):
        codec.decode(Record, data, "r.json")
    with pytest.raises(UserError, match=r"r\.json is not JSON"):
        codec.loads(Record, "{", "r.json")
    with pytest.raises(UserError, match="the record is 3"):
        codec.loads(Record, "3", "r.json")


def test_not_a_number_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.dumps(record_of(random_table(10), wall_s=float("nan")))
