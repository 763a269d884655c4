"""Tokenizers beside the tiny WordPiece: casing, Chinese, CLIP, SigLIP2, and the BERT checkpoints that go with them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from rrsis_bench.backbones import build_text
from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import (
    SPECIAL_TOKENS,
    bert_tokenizer,
    build_wordpiece,
    load_tokenizer,
    save_vocabulary,
)
from rrsis_bench.errors import UserError
from tests.fakes.backbones import node

LOWER = [*SPECIAL_TOKENS, *"abcdefghijklmnopqrstuvwxyz船左边的", "ship", "##s", "the"]
CASED = [*SPECIAL_TOKENS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ船左边的", "Ship", "ship", "##s", "the", "é"]


def _folder(path, vocabulary, settings, config=None):
    path.mkdir()
    (path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


# The files of bert-base-multilingual-cased and bert-base-chinese; the former has no tokenizer_class, either with a
# config.json beside it or without.
@pytest.mark.parametrize("config", [None, {"model_type": "bert", "architectures": ["BertForMaskedLM"]}])
@pytest.mark.parametrize("extra", [{}, {"tokenizer_class": "BertTokenizer"}])
def test_casing_follows_the_folder_and_never_loses_capitals(tmp_path, config, extra):
    settings = {"do_lower_case": False, "model_max_length": 512, **extra}
    cased = load_tokenizer(_folder(tmp_path / "multilingual", CASED, settings, config))
    assert cased.encode("the Ships é 船").tokens == ["[CLS]", "the", "Ship", "##s", "é", "船", "[SEP]"]
    assert cased.encode("左边的船").tokens[1:-1] == list("左边的船")
    # Published as cased, without one capital letter: "Ships" must not be an unknown word.
    chinese = load_tokenizer(_folder(tmp_path / "chinese", LOWER, settings, config))
    assert chinese.encode("the Ships 船").tokens == ["[CLS]", "the", "ship", "##s", "船", "[SEP]"]


def test_the_casing_of_a_bare_vocabulary(tmp_path):
    for name, vocabulary, word in (("cased", CASED, "Ship"), ("uncased", LOWER, "ship")):
        folder = _folder(tmp_path / name, vocabulary, None)
        for source in (folder, folder / "vocab.txt"):
            assert load_tokenizer(source).encode("Ship").tokens[1] == word
    asked = _folder(tmp_path / "asked", CASED, {"do_lower_case": True})
    assert load_tokenizer(asked).encode("Ship").tokens[1] == "ship"


def test_line_separators_in_a_vocabulary_do_not_shift_its_ids(tmp_path):
    folder = _folder(tmp_path / "vocabulary", [*SPECIAL_TOKENS, "\u2028", "\x85", *LOWER[5:]], None)
    assert load_tokenizer(folder / "vocab.txt").token_to_id("ship") == len(SPECIAL_TOKENS) + 2 + LOWER[5:].index("ship")


def test_a_damaged_folder_is_refused(tmp_path):
    folder = _folder(tmp_path / "broken", LOWER, None)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json cannot be read.*text\.tokenizer="):
        load_tokenizer(folder)


def _pretrained(vocab_size):
    """Tiny weights with the keys of Google's BERTs on the hub: prefix, gamma and beta, pooler, both heads."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
        )
    ).eval()
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value.clone()
        for key, value in model.state_dict().items()
    }
    return model, state


@pytest.mark.parametrize("vocab_size", [21128, 119547])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_checkpoints_with_the_layout_of_the_chinese_and_multilingual_bert(tmp_path, vocab_size, file):
    model, state = _pretrained(vocab_size)
    assert state["bert.embeddings.position_embeddings.weight"].shape == (512, 16)
    assert state["bert.embeddings.token_type_embeddings.weight"].shape == (2, 16)
    if file.endswith(".safetensors"):
        save_file(state, tmp_path / file, metadata={"format": "pt"})
    else:  # these files are of 2018 and 2019
        torch.save(state, tmp_path / file, _use_new_zipfile_serialization=False)
    sizes = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 24, "weights": str(tmp_path)}
    encoder = build_text(node("text/bert_base", vocab_size=vocab_size, **sizes), BertEncoder).eval()
    ids_BL = torch.tensor([[101, vocab_size - 1, 102, 0]])
    mask_BL = torch.tensor([[1, 1, 1, 0]])
    expected = model.bert(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
    torch.testing.assert_close(encoder(ids_BL, mask_BL), expected)
    with pytest.raises(UserError, match=r"word_embeddings.weight has shape .* the model needs \(30522, 16\)"):
        build_text(node("text/bert_base", **sizes), BertEncoder)  # the English size with these weights


CLIP_TEXTS = [
    "The red ship on the LEFT.", "  two   planes,  side by side ", "a tennis-court; 25 m x 10 m (blue)",
    "it's the ship's",
    "café at 100% — “the roof”, ‘left’", "左上角的飞机，右边的船", "（红色）！？", "won't don't we'll I'd",
    "a\tb\nc", "x_y #1 @ 3.5", "golf ﬁeld", "the " * 120,
]  # fmt: skip


def test_clip_ids_are_open_clips():
    from open_clip.tokenizer import SimpleTokenizer

    pipeline = TextPipeline(load_tokenizer("clip"), 77, ("word_mask",))
    out = pickle.loads(pickle.dumps(pipeline))(CLIP_TEXTS)  # noqa: S301 - our own bytes
    expected_BL = SimpleTokenizer()(CLIP_TEXTS, 77).numpy()
    np.testing.assert_array_equal(out["input_ids"], expected_BL)
    assert pipeline.tokenizer.get_vocab_size() == 49408
    words_BL = (expected_BL != 49406) & (expected_BL != 49407) & (np.cumsum(expected_BL == 49407, axis=1) == 0)
    np.testing.assert_array_equal(out["word_mask"], words_BL)


def _gemma(folder):
    """A tokenizer.json with the parts of SigLIP2's: byte fallback, "▁" for spaces, fixed padding, special tokens."""
    folder.mkdir()
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [*"abcdefghijklmnopqrstuvwxyzTS▁船"]
    merges = [("▁", "s"), ("h", "i"), ("hi", "p"), ("▁s", "hip"), ("t", "h"), ("th", "e")]
    joined = ["".join(pair) for pair in merges]
    byte_tokens = [f"<0x{code:02X}>" for code in range(256)]
    tokens = dict.fromkeys([*special, *byte_tokens, *letters, *joined])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(64)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "padding_side": "right"})
    )
    return folder


def test_siglip2_reads_lower_case_without_bos_and_pads_to_its_length(tmp_path):
    tokenizer = load_tokenizer(f"siglip2:{_gemma(tmp_path / 'siglip2')}")
    out = TextPipeline(tokenizer, 64, ("word_mask",))(["The SHIP", "the ship", "船 é"])
    tokens = [[tokenizer.id_to_token(index) for index in row] for row in out["input_ids"].tolist()]
    assert tokens[0] == tokens[1] == ["the", "▁ship", "<eos>"] + ["<pad>"] * 61
    assert tokens[2][:6] == ["船", "▁", "<0xC3>", "<0xA9>", "<eos>", "<pad>"]
    assert out["attention_mask"].sum(1).tolist() == [3, 3, 5]
    assert out["word_mask"].sum(1).tolist() == [2, 2, 4]
    short = TextPipeline(tokenizer, 3)(["the ship the ship"])["input_ids"]  # the closing token stays
    assert [tokenizer.id_to_token(index) for index in short[0]] == ["the", "▁ship", "<eos>"]


def test_what_is_no_siglip2_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json.*text\.tokenizer="):
        load_tokenizer(f"siglip2:{tmp_path}", "text.tokenizer")
    for content in ("{", "{}"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            load_tokenizer(f"siglip2:{tmp_path}")
    bert_tokenizer(LOWER).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="<eos>"):
        load_tokenizer(f"siglip2:{tmp_path}")


def test_word_mask_leaves_special_tokens_and_padding_out():
    tokenizer = build_wordpiece(["the red ship"], 200)
    pipeline = TextPipeline(tokenizer, 6, ("word_mask",))
    assert pipeline.tagger is None  # no phrases are looked for
    out = pipeline(["the ship", "the red ship the red ship"])
    assert out["word_mask"].tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0]]
    assert out["word_mask"].dtype == np.int64
    both = TextPipeline(tokenizer, 6, ("word_mask", "object_mask"), categories=("ship",))(["the ship"])
    assert (both["word_mask"].tolist(), both["object_mask"].tolist()) == ([[0, 1, 1, 0, 0, 0]], [[0, 0, 1, 0, 0, 0]])


def test_a_saved_vocabulary_with_chinese_survives_its_file(tmp_path):
    tokenizer = build_wordpiece(["左边的船 Ship", "the ship"], 200)
    save_vocabulary(tokenizer, tmp_path / "vocab.txt")
    assert load_tokenizer(tmp_path / "vocab.txt").to_str() == tokenizer.to_str()
