from __future__ import annotations

import dataclasses

from rrsis_bench.config.protocol import Protocol


def test_masks_are_scored_at_the_size_that_the_protocol_says():
    assert Protocol("native").scored_size((800, 801), 480) == (800, 801)
    assert Protocol("lavt", resolution="input").scored_size((800, 801), 480) == (480, 480)


def test_the_scoring_id_follows_what_changes_scores_and_nothing_else():
    base = Protocol("native")
    changes = {"resolution": "input", "align_corners": True, "strict": True, "empty": "zero", "no_target_pixels": 5}
    for field, value in changes.items():
        assert dataclasses.replace(base, **{field: value}).scoring_id != base.scoring_id, field
    for field, value in {"name": "other", "selection_split": "test", "selection_metric": "oiou"}.items():
        assert dataclasses.replace(base, **{field: value}).scoring_id == base.scoring_id, field
    assert {*changes, "name", "selection_split", "selection_metric"} == {f.name for f in dataclasses.fields(Protocol)}
