"""Whole words of the training expressions: their order, their file, unknown words, and the word mask."""

from __future__ import annotations

import pytest

from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import (
    WORDPIECE,
    WORDS,
    build_from_expressions,
    build_words,
    load_vocabulary,
    save_vocabulary,
)
from rrsis_bench.errors import UserError

EXPRESSIONS = ["The ship, on the left.", "the ship", "a tree-lined  road"]


def ids(tokenizer, text):
    return tokenizer.encode(text).tokens


def test_words_by_falling_frequency_then_alphabet() -> None:
    vocabulary = build_words(EXPRESSIONS, 100).get_vocab()
    assert sorted(vocabulary, key=vocabulary.__getitem__) == [
        "[PAD]", "[UNK]", "the", "ship", ",", "-", "a", "left", "lined", "on", "road", "tree",
    ]  # fmt: skip
    again = build_words(list(reversed(EXPRESSIONS)), 100)
    assert again.get_vocab() == vocabulary
    assert build_words(EXPRESSIONS, 4).get_vocab_size() == 4


def test_punctuation_is_a_word_and_the_last_full_stop_is_dropped() -> None:
    tokenizer = build_words(EXPRESSIONS, 100)
    assert ids(tokenizer, "The SHIP, on the left .") == ["the", "ship", ",", "on", "the", "left"]
    assert ids(tokenizer, "ship . road") == ["ship", "[UNK]", "road"]
    assert ids(tokenizer, "the plane") == ["the", "[UNK]"]


def test_there_are_no_special_tokens_and_padding_is_zero() -> None:
    pipeline = TextPipeline(build_words(EXPRESSIONS, 100), 4, ("word_mask",))
    out = pipeline(["the ship", "the ship on the left"])
    assert out["input_ids"][0].tolist() == [2, 3, 0, 0]
    assert out["word_mask"].tolist() == out["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("source", [WORDS, WORDPIECE])
def test_a_saved_vocabulary_gives_the_same_tokenizer(tmp_path, source) -> None:
    tokenizer = build_from_expressions(source, EXPRESSIONS, 200, "text.vocab_size")
    save_vocabulary(tokenizer, tmp_path / "vocab.txt")
    assert load_vocabulary(source, tmp_path / "vocab.txt").to_str() == tokenizer.to_str()


def test_another_language_and_too_few_words_are_errors() -> None:
    with pytest.raises(UserError, match="another language"):
        TextPipeline(build_words(EXPRESSIONS, 100), 8)(["左边的船"])
    with pytest.raises(UserError, match=r"text\.vocab_size=2"):
        build_words(EXPRESSIONS, 2)
    with pytest.raises(UserError, match="without expressions"):
        build_words([], 100)
