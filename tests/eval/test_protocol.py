from __future__ import annotations

import dataclasses

import pytest

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.errors import UserError

NATIVE = {"name": "native", "resolution": "native", "align_corners": False, "strict": False, "empty": "rela",
          "selection_split": "val", "selection_metric": "miou", "no_target_pixels": 0}  # fmt: skip


def test_a_mapping_becomes_a_protocol_and_back():
    assert Protocol.from_mapping(NATIVE).as_dict() == NATIVE
    assert Protocol.from_mapping({"name": "native"}) == Protocol.from_mapping(NATIVE), "the defaults are native's"


def test_an_unknown_field_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"Unknown protocol field: threshold\. A protocol has: name, resolution"):
        Protocol.from_mapping(NATIVE | {"threshold": 0.5})


@pytest.mark.parametrize(("field", "value"), [
    ("resolution", "480"), ("empty", "nan"), ("selection_split", "dev"), ("selection_metric", "giou"),
    ("strict", "yes"), ("align_corners", 1), ("no_target_pixels", -1), ("no_target_pixels", True),
])  # fmt: skip
def test_a_wrong_value_is_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"protocol.{field}="):
        Protocol.from_mapping(NATIVE | {field: value})


def test_a_protocol_needs_a_name():
    with pytest.raises(UserError, match="has no name"):
        Protocol.from_mapping({"strict": True})


def test_masks_are_scored_at_the_size_that_the_protocol_says():
    assert Protocol("native").scored_size((800, 801), 480) == (800, 801)
    assert Protocol("lavt", resolution="input").scored_size((800, 801), 480) == (480, 480)


def test_the_scoring_id_follows_what_changes_scores_and_nothing_else():
    base = Protocol.from_mapping(NATIVE)
    changes = {"resolution": "input", "align_corners": True, "strict": True, "empty": "zero", "no_target_pixels": 5}
    for field, value in changes.items():
        assert dataclasses.replace(base, **{field: value}).scoring_id != base.scoring_id, field
    for field, value in {"name": "other", "selection_split": "test", "selection_metric": "oiou"}.items():
        assert dataclasses.replace(base, **{field: value}).scoring_id == base.scoring_id, field
    assert {*changes, "name", "selection_split", "selection_metric"} == {f.name for f in dataclasses.fields(Protocol)}
