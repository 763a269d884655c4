"""Words whose meaning depends on the frame."""

from __future__ import annotations

import pytest

from rrsis_bench.predict.frame_words import frame_words


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a white ship", {}),
        ("The ship on the LEFT side of the left bridge", {"position": ["left", "side"]}),
        ("the leftmost of the upper ships", {"position": ["leftmost", "upper"]}),
        ("the second largest tank next to the road", {
            "order": ["second", "next"], "superlative": ["largest"], "relation": ["next to"],
        }),
        ("the 3rd vehicle between two houses", {"order": ["3rd"], "relation": ["between"]}),
        ("a brightly lit underground station", {}),
        ("左边最大的船", {"position": ["左"], "superlative": ["最大"]}),
        ("桥旁边的第二个油罐", {"order": ["第二"], "relation": ["旁边"]}),
    ],
)  # fmt: skip
def test_words_are_found_by_kind_and_not_inside_of_others(expression, expected):
    assert frame_words(expression) == expected
