"""The nouns of an expression that a model hides from itself in training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import groupby

from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.phrases import Span, word_spans

NOUN_KEY = "noun_mask"
"""Text key that marks one run of adjacent nouns (RIS-DMMI)."""


def noun_runs(expression: str) -> list[Span]:
    """Return (start, end) characters of every run of adjacent common nouns (Penn tags NN and NNS)."""
    spans = word_spans(expression)
    tags = [tag for _, tag in lexicon.tag([expression[start:end] for start, end in spans])]
    groups = groupby(zip(spans, tags, strict=True), key=lambda pair: pair[1] in ("NN", "NNS"))
    runs = [[span for span, _ in group] for is_noun, group in groups if is_noun]
    return [(run[0][0], run[-1][1]) for run in runs]


def mark_nouns(expression: str, offsets: Sequence[Span]) -> list[int]:
    """Mark the tokens of one run of nouns: 0 or 1 per token, and all 0 without a noun that fits.

    Which run it is depends on the expression alone, so that every run of the program marks the same.

    Args:
        expression: the text.
        offsets: (start, end) characters of each token that fits, special tokens as (0, 0).
    """
    fitting = max((end for _, end in offsets), default=0)
    runs = [run for run in noun_runs(expression) if run[0] < fitting]
    if not runs:
        return [0] * len(offsets)
    start, end = runs[zlib.crc32(expression.encode()) % len(runs)]
    return [int(a < end and start < b) for a, b in offsets]
