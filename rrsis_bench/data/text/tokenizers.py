"""Tokenizers: BERT's WordPiece from a file, a folder or the expressions, whole words, CLIP's and SigLIP2's BPE.

Devlin et al., "BERT", NAACL 2019; Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021; Tschannen et al., "SigLIP 2", 2025 (the text: lower case, 64 tokens, always padded).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import BPE, WordLevel, WordPiece
from tokenizers.normalizers import NFC, BertNormalizer, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Splitters
from tokenizers.processors import TemplateProcessing

from rrsis_bench.codec import parse_json
from rrsis_bench.errors import UserError

FIELD = "text.tokenizer"
WORDPIECE = "wordpiece"
WORDS = "words"
FROM_EXPRESSIONS = (WORDPIECE, WORDS)
"""Values of ``text.tokenizer`` whose vocabulary is built from the training expressions."""

CLIP = "clip"
SIGLIP2 = "siglip2:"
HUB = "hub:"

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HUB_TIMEOUT_S = 5.0
_SPELLING = "abcdefghijklmnopqrstuvwxyz0123456789"
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json")
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def bert_tokenizer(vocabulary: Sequence[str], lowercase: bool | None = None) -> Tokenizer:
    """A BERT tokenizer over a vocabulary whose line numbers are the ids; Chinese characters are split one by one.

    Args:
        vocabulary: the tokens.
        lowercase: lower-case the text and strip accents (an uncased model) or leave both (a cased one). None: cased if
            and only if the vocabulary has the capital letters, without which every word in capitals were unknown.

    Raises:
        UserError: a special token is missing.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    missing = [token for token in SPECIAL_TOKENS[:4] if token not in ids]
    if missing:
        raise UserError(f"The vocabulary lacks {', '.join(missing)}; it is not a BERT vocabulary.")
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(
        lowercase=not _has_capitals(ids) if lowercase is None else lowercase, handle_chinese_chars=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in ids])
    return tokenizer


def build_wordpiece(expressions: Iterable[str], vocab_size: int, field: str = "text.vocab_size") -> Tokenizer:
    """Build a small WordPiece vocabulary from expressions, the same for the same multiset of expressions.

    Special tokens first; then every character seen and a to z, 0 to 9, alone and as ``##`` continuation, so that an
    unseen word is spelt out; then whole words by falling frequency, ties by the alphabet, until `vocab_size`.

    Args:
        expressions: the texts.
        vocab_size: most tokens.
        field: the configuration field that holds `vocab_size`, for messages.

    Raises:
        UserError: no expressions, or `vocab_size` is too small for the characters.
    """
    normalizer, splitter = BertNormalizer(lowercase=True, handle_chinese_chars=True), BertPreTokenizer()
    words: Counter[str] = Counter()
    for expression in expressions:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(expression)))
    if not words:
        raise UserError("A vocabulary cannot be built without expressions.")
    seen = set("".join(words)) | set(_SPELLING)
    # A punctuation mark or a Chinese character is always a word of its own and needs no continuation form.
    chars = sorted(seen)
    inner = sorted({char for word in words for char in word[1:]} | set(_SPELLING))
    vocabulary = [*SPECIAL_TOKENS, *chars, *(f"##{char}" for char in inner)]
    if len(vocabulary) > vocab_size:
        raise UserError(
            f"A vocabulary of {vocab_size} tokens cannot hold the {len(vocabulary)} special tokens and characters of "
            f"the expressions. Raise {field}."
        )
    known = set(vocabulary)
    ranked = sorted((word for word in words if word not in known), key=lambda word: (-words[word], word))
    return bert_tokenizer([*vocabulary, *ranked[: vocab_size - len(vocabulary)]], lowercase=True)


def words_tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """Return a tokenizer of whole lower-case words over a vocabulary whose line numbers are the ids.

    Punctuation marks between words are words; the full stop at the end is dropped. There are no special tokens around
    the words. Chinese has no blanks between words, so a Chinese sentence is one word.
    """
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = Normalizers([Lowercase(), Replace(Regex(r"\s*\.\s*$"), "")])
    tokenizer.pre_tokenizer = Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS[:2]))
    return tokenizer


def build_words(expressions: Iterable[str], vocab_size: int, field: str = "text.vocab_size") -> Tokenizer:
    """Build a vocabulary of the words of expressions, the same for the same multiset of expressions.

    Padding and the unknown word first; then words by falling frequency, ties by the alphabet, until `vocab_size`.

    Args:
        expressions: the texts.
        vocab_size: most words.
        field: the configuration field that holds `vocab_size`, for messages.

    Raises:
        UserError: no expressions, or `vocab_size` leaves no room for a word.
    """
    splitter = words_tokenizer(SPECIAL_TOKENS[:2])
    words: Counter[str] = Counter()
    for expression in expressions:
        plain = splitter.normalizer.normalize_str(expression)
        words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(plain))
    if not words:
        raise UserError("A vocabulary cannot be built without expressions.")
    if vocab_size <= 2:
        raise UserError(
            f"{field}={vocab_size} leaves no room for a word beside padding and the unknown word. Raise it."
        )
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return words_tokenizer([*SPECIAL_TOKENS[:2], *ranked[: vocab_size - 2]])


def build_from_expressions(source: str, expressions: Iterable[str], vocab_size: int, field: str) -> Tokenizer:
    """Build the tokenizer that `source`, one of `FROM_EXPRESSIONS`, names; see `build_wordpiece` and `build_words`."""
    build = build_words if source == WORDS else build_wordpiece
    return build(expressions, vocab_size, field)


def load_vocabulary(source: str, path: Path, field: str = FIELD) -> Tokenizer:
    """Load a tokenizer that `build_from_expressions` built, from the file that `save_vocabulary` wrote."""
    return words_tokenizer(_lines(path)) if source == WORDS else load_tokenizer(path, field)


def save_vocabulary(tokenizer: Tokenizer, path: Path) -> None:
    """Write vocab.txt, one token per line in the order of the ids; `load_tokenizer` reads it back."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    path.write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")


def load_tokenizer(source: str | Path, field: str = FIELD) -> Tokenizer:
    """Load a tokenizer, with character offsets.

    Args:
        source: ``hub:<id>`` (the local Hugging Face cache, or its hub), a folder, or a BERT's ``vocab.txt``; ``clip``
            for OpenAI CLIP's vocabulary, which comes with open_clip; ``siglip2:`` before a hub id or folder for
            SigLIP2's.
        field: the configuration field that holds `source`, for messages.

    Raises:
        UserError: it is not there, or the hub cannot be reached (within seconds), with the override to use.
    """
    text = str(source)
    if text == CLIP:
        return clip_tokenizer()
    siglip2 = text.startswith(SIGLIP2)
    place = text.removeprefix(SIGLIP2)
    folder = _download(place.removeprefix(HUB), field) if place.startswith(HUB) else Path(place).expanduser()
    if siglip2:
        return _siglip2(folder, place, field)
    if folder.is_dir():
        return _from_folder(folder, text, field)
    if not folder.is_file():
        raise UserError(f"There is no tokenizer at {folder}: {_override(field)}, or hub:<id>.")
    return bert_tokenizer(_lines(folder))


def clip_tokenizer() -> Tokenizer:
    """OpenAI CLIP's lower-casing BPE over bytes, 49,408 tokens, with the ids of open_clip's `SimpleTokenizer`.

    It knows every text, but it learnt English words only: Chinese is spelt in bytes. Curly quotes, ligatures and
    full-width punctuation are made plain, as there; broken encodings and HTML entities, which ftfy repairs there, stay.
    """
    from open_clip.tokenizer import SimpleTokenizer

    source = SimpleTokenizer()
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(
        BPE(dict(source.encoder), merges, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False)
    )
    plain = [Replace(chr(0xFEE0 + code), chr(code)) for code in range(0x21, 0x7F)]
    plain += [Replace(Regex("[\u02bc\u2018-\u201b]"), "'"), Replace(Regex("[\u201c-\u201f]"), '"')]
    plain += [Replace(chr(0xFB00 + place), letters) for place, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl"))]
    tokenizer.normalizer = Normalizers([*plain, NFC(), Lowercase()])
    tokenizer.pre_tokenizer = Splitters(
        [Split(Regex(_CLIP_WORDS), "removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    start, end = "<start_of_text>", "<end_of_text>"
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(token, source.encoder[token]) for token in (start, end)]
    )
    tokenizer.enable_padding(pad_id=0, pad_token="!")  # padded with 0, the id of "!", as SimpleTokenizer's rows
    return tokenizer


def _siglip2(folder: Path, source: str, field: str) -> Tokenizer:
    """Gemma's BPE as SigLIP2 was trained with it: lower case, no opening token, a closing ``<eos>``, ``<pad>`` behind.

    What the file says of casing and special tokens is not relied on: released copies differ in it.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"{source} holds no tokenizer.json, which SigLIP2's tokenizer is read from: {_override(field)}."
        )
    if not isinstance(_settings(path, field).get("model"), dict):  # what the library itself would refuse less clearly
        raise UserError(f"{path} holds no tokenizer: {_override(field)}.")
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    eos, pad = tokenizer.token_to_id("<eos>"), tokenizer.token_to_id("<pad>")
    if eos is None or pad is None:
        raise UserError(f"{path} has no <eos> and <pad>; it is not SigLIP2's tokenizer: {_override(field)}.")
    tokenizer.normalizer = Normalizers([Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", eos)])
    tokenizer.enable_padding(pad_id=pad, pad_token="<pad>")
    return tokenizer


def _download(hub_id: str, field: str) -> Path:
    """Fetch a tokenizer's files into the Hugging Face cache and return the folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=list(_TOKENIZER_FILES), etag_timeout=HUB_TIMEOUT_S, max_workers=1)
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The tokenizer (tokenizer.json, vocab.txt) of hub id '{hub_id}' is not in the local Hugging Face cache "
            f"and cannot be fetched: {reason}\nFetch it on a machine with a network (hf download {hub_id} vocab.txt "
            f"tokenizer.json tokenizer_config.json config.json) and {_override(field)}."
        ) from None


def _from_folder(folder: Path, source: str, field: str) -> Tokenizer:
    """Read a folder through transformers; one of which it would not know the kind is a BERT's, by its vocab.txt."""
    known = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    settings = _settings(folder / "tokenizer_config.json", field)
    if "vocab.txt" in known and not {"tokenizer.json", "config.json"} & {*known} and "tokenizer_class" not in settings:
        return bert_tokenizer(_lines(folder / "vocab.txt"), _lowercase(settings, _lines(folder / "vocab.txt")))
    if not {"tokenizer.json", "tokenizer_config.json", "vocab.txt"} & {*known}:
        raise UserError(f"{source} holds no tokenizer.json, tokenizer_config.json or vocab.txt: {_override(field)}.")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, use_fast=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"The tokenizer in {folder} cannot be read ({error}): {_override(field)}.") from None
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise UserError(
            f"The tokenizer of {source} is not a fast one and gives no character offsets: {_override(field)}."
        )
    tokenizer: Tokenizer = loaded.backend_tokenizer
    normalizer = tokenizer.normalizer
    if isinstance(normalizer, BertNormalizer) and not normalizer.lowercase and not _has_capitals(tokenizer.get_vocab()):
        # bert-base-chinese is published as cased, but has no capital letter: "Ship" would be an unknown word.
        normalizer.lowercase = True
        tokenizer.normalizer = normalizer
    if loaded.pad_token_id is not None:
        tokenizer.enable_padding(pad_id=loaded.pad_token_id, pad_token=str(loaded.pad_token))
    return tokenizer


def _settings(path: Path, field: str) -> dict[str, Any]:
    """The values of a JSON file; empty where there is none."""
    try:
        values = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {_override(field)}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings: {_override(field)}.")
    return values


def _lowercase(settings: Mapping[str, Any], vocabulary: Sequence[str]) -> bool | None:
    """What the settings say, unless it would make every word with a capital letter unknown; None: they are silent."""
    lowercase = settings.get("do_lower_case")
    return None if lowercase is None else bool(lowercase) or not _has_capitals(vocabulary)


def _has_capitals(vocabulary: Iterable[str]) -> bool:
    return set(_CAPITALS) <= set(vocabulary)


def _lines(path: Path) -> list[str]:
    # By "\n" alone: a vocabulary may hold U+2028 and its like as tokens, at which splitlines() would shift all ids.
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _override(field: str) -> str:
    return f"name a local folder or vocab.txt with {field}=/path/to/it"
