import json
import pickle
import socket
import time

import numpy as np
import pytest

from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES
from rrsis_bench.data.text.pipeline import MAX_UNKNOWN_SHARE, TextPipeline
from rrsis_bench.data.text.tokenizers import (
    SPECIAL_TOKENS,
    bert_tokenizer,
    build_wordpiece,
    load_tokenizer,
    save_vocabulary,
)
from rrsis_bench.errors import UserError

EXPRESSIONS = ["The red ship on the left.", "the blue ship", "a vehicle on the upper left", "the ship"]


@pytest.fixture
def tokenizer():
    return build_wordpiece(EXPRESSIONS, 200)


def _plain_wordpiece(text, vocabulary):
    """Greedy longest match, word by word: the plain form of BERT's algorithm, for lower-case words and full stops."""
    ids = []
    for word in text.lower().replace(".", " . ").split():
        pieces, start = [], 0
        while start < len(word):
            end = len(word)
            while end > start and ("##" if start else "") + word[start:end] not in vocabulary:
                end -= 1
            if end == start:
                pieces = ["[UNK]"]
                break
            pieces.append(("##" if start else "") + word[start:end])
            start = end
        ids += [vocabulary[piece] for piece in pieces]
    return [vocabulary["[CLS]"], *ids, vocabulary["[SEP]"]]


def test_ids_equal_a_plain_greedy_match(tokenizer):
    texts = [*EXPRESSIONS, "the unseen leftship on blueness", "the ship é on"]
    length = 40
    out = TextPipeline(tokenizer, length)(texts[:-1])
    for row, text in enumerate(texts[:-1]):
        ids = _plain_wordpiece(text, tokenizer.get_vocab())
        assert out["input_ids"][row].tolist() == ids + [0] * (length - len(ids))
        assert out["attention_mask"][row].tolist() == [1] * len(ids) + [0] * (length - len(ids))
    assert out["input_ids"].dtype == np.int64
    assert set(out) == {"input_ids", "attention_mask"}


def test_vocabulary_is_deterministic_and_ordered():
    first = build_wordpiece(EXPRESSIONS, 200).get_vocab()
    again = build_wordpiece(list(reversed(EXPRESSIONS)), 200).get_vocab()
    assert first == again
    tokens = sorted(first, key=first.get)
    assert tokens[:5] == list(SPECIAL_TOKENS)
    words = [token for token in tokens[5:] if len(token.removeprefix("##")) > 1]
    assert words[0] == "the"  # six times
    assert words[1:4] == ["ship", "left", "on"]  # three times, then twice: ties by the alphabet
    assert sorted(first.values()) == list(range(len(first)))


def test_vocabulary_is_cut_at_its_size_and_refuses_too_small_a_one():
    assert build_wordpiece(EXPRESSIONS, 80).get_vocab_size() == 80
    with pytest.raises(UserError, match="vocab_size"):
        build_wordpiece(EXPRESSIONS, 50)
    with pytest.raises(UserError, match="without expressions"):
        build_wordpiece([], 50)


def test_vocabulary_survives_its_file(tokenizer, tmp_path):
    save_vocabulary(tokenizer, tmp_path / "vocab.txt")
    for source in (tmp_path / "vocab.txt", str(tmp_path)):
        loaded = load_tokenizer(source)
        assert loaded.to_str() == tokenizer.to_str()


def test_bert_folder_is_read_through_transformers(tokenizer, tmp_path):
    """A folder as the hub has it; casing follows its configuration."""
    save_vocabulary(tokenizer, tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
    )
    loaded = load_tokenizer(str(tmp_path))
    for key, array in TextPipeline(loaded, 12)(EXPRESSIONS).items():
        np.testing.assert_array_equal(array, TextPipeline(tokenizer, 12)(EXPRESSIONS)[key])


def test_long_expressions_lose_their_end_but_not_the_closing_token(tokenizer):
    out = TextPipeline(tokenizer, 5)(["the red ship on the left", "the ship"])
    vocabulary = tokenizer.get_vocab()
    assert out["input_ids"][0].tolist() == [vocabulary[t] for t in ("[CLS]", "the", "red", "ship", "[SEP]")]
    assert out["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]


def test_repeated_expressions_get_their_own_rows(tokenizer):
    texts = ["the ship", "the blue ship", "the ship"]
    out = TextPipeline(tokenizer, 8)(texts)["input_ids"]
    assert out.shape == (3, 8)
    np.testing.assert_array_equal(out[0], out[2])
    assert (out[0] != out[1]).any()


def test_report_counts(tokenizer):
    texts = ["the red ship on the left", "the ship on the", "the 船 red blue ship on the left"]
    report = TextPipeline(tokenizer, 6).report(texts)  # four words and two special tokens fit
    assert (report.n, report.truncated, report.longest) == (3, 2, 10)
    assert (report.unknown, report.tokens) == (1, 6 + 4 + 8)
    assert report.unknown_share == pytest.approx(1 / 18)


def test_padding_and_special_tokens_are_never_phrases(tokenizer):
    out = TextPipeline(tokenizer, 12, ("object_mask", "position_mask"), "nltk", CATEGORIES)(EXPRESSIONS[:1])
    tokens = [tokenizer.id_to_token(i) for i in out["input_ids"][0]]
    marked = {
        key: [t for t, m in zip(tokens, out[key][0], strict=True) if m] for key in ("object_mask", "position_mask")
    }
    assert marked == {"object_mask": ["ship"], "position_mask": ["on", "the", "left"]}


def test_only_the_phrase_masks_asked_for(tokenizer):
    assert set(TextPipeline(tokenizer, 9, ("position_mask",))(["the ship"])) == {
        "input_ids",
        "attention_mask",
        "position_mask",
    }
    with pytest.raises(UserError, match="phrase masks"):
        TextPipeline(tokenizer, 9, ("verb_mask",))


def test_pipeline_is_picklable(tokenizer):
    pipeline = TextPipeline(tokenizer, 12, ("object_mask", "position_mask"), "nltk", CATEGORIES)
    copy = pickle.loads(pickle.dumps(pipeline))  # noqa: S301 - our own bytes
    for key, array in pipeline(EXPRESSIONS).items():
        np.testing.assert_array_equal(array, copy(EXPRESSIONS)[key])


def test_chinese_in_an_english_vocabulary_is_refused(tokenizer):
    pipeline = TextPipeline(tokenizer, 12)
    with pytest.raises(UserError, match=r"tokenizer=.*language"):
        pipeline(["左上角的飞机", "右边的船"])
    with pytest.raises(UserError, match="左上角的飞机"):
        pipeline(["the ship " + "left " * i for i in range(50)] + ["左上角的飞机"])  # one among many


def test_the_share_of_unknown_tokens_that_is_accepted(tokenizer):
    """Ten tokens each, 1, 2 or 3 of them unknown."""
    known = ["the", "red", "ship", "on", "the", "left", "the", "red", "ship", "on"]
    for unknown, refused in ((1, False), (2, False), (3, True)):
        text = " ".join(["船"] * unknown + known[unknown:])
        assert (unknown / 10 > MAX_UNKNOWN_SHARE) == refused
        if refused:
            with pytest.raises(UserError, match="30%"):
                TextPipeline(tokenizer, 20)([text])
        else:
            TextPipeline(tokenizer, 20)([text])


def test_chinese_expressions_with_a_vocabulary_of_their_own():
    texts = ["左上角的飞机", "右边的船"]
    tokenizer = build_wordpiece(texts, 200)
    out = TextPipeline(tokenizer, 12)(texts)
    assert out["attention_mask"].sum(1).tolist() == [2 + 6, 2 + 4]  # one token per character
    assert (out["input_ids"] != tokenizer.token_to_id("[UNK]")).all()


@pytest.mark.parametrize("empty", ["", "   ", "\n"])
def test_empty_expressions_are_refused(tokenizer, empty):
    with pytest.raises(UserError, match="Expression 1 is empty"):
        TextPipeline(tokenizer, 12)(["the ship", empty])


def test_no_room_for_words_is_refused(tokenizer):
    with pytest.raises(UserError, match="max_tokens=2"):
        TextPipeline(tokenizer, 2)


def test_unreachable_hub_fails_fast_with_the_override(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        load_tokenizer("hub:google-bert/bert-base-uncased")
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert "google-bert/bert-base-uncased" in message
    assert "text.tokenizer=/path" in message


@pytest.mark.parametrize("name", ["absent", "empty", "half"])
def test_local_sources_that_are_no_tokenizer_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").write_text("[PAD]\nship\n")
    with pytest.raises(UserError):
        load_tokenizer(tmp_path / name)


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(UserError, match=r"\[CLS\]"):
        bert_tokenizer(["[PAD]", "[UNK]", "ship"])
