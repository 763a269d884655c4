"""Expressions to token ids: vocabularies, and the pipeline that a loader applies once to a whole split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from rrsis_bench.data.phrases import PHRASE_KEYS, make_phrase_finder
from rrsis_bench.errors import UserError

_SPELLING = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_UNKNOWN_SHARE = 0.20
"""Above this share of unknown tokens in a set of expressions the vocabulary is taken for the wrong one. English RRSIS
expressions in an English vocabulary have almost none; of Chinese ones, most tokens: a model would read noise."""

MAX_UNKNOWN_SHARE_ONE = 0.5
"""The same for a single expression: one expression of another language must not hide in a large set."""

HUB_TIMEOUT_S = 5.0
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json")
_OVERRIDE = "name a local folder or vocab.txt with size.tokenizer=/path/to/it"


@dataclass(frozen=True, slots=True)
class TextReport:
    """What tokenising a set of expressions cost.

    Attributes:
        n: expressions.
        truncated: expressions with more tokens than fit (special tokens included); their ends are not seen.
        longest: tokens of the longest expression, special tokens included, before truncation.
        unknown: unknown tokens.
        tokens: tokens without special ones.
    """

    n: int
    truncated: int
    longest: int
    unknown: int
    tokens: int

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0


class TextPipeline:
    """Turns expressions into token arrays (and, where asked, phrase masks). Picklable.

    Args:
        tokenizer: from `load_tokenizer` or `build_wordpiece`.
        max_tokens: L; special tokens and padding included. Longer expressions lose their end, never the closing token.
        phrase_masks: which of ``("object_mask", "position_mask")`` to add (FIANet).
        phrases: ``"nltk"`` or ``"legacy"``, the authors' word-index behaviour; see `phrases.py`.
        categories: the dataset's category names, which the object phrases are looked up in.

    Raises:
        UserError: an unknown phrase key or behaviour, or L too small for any word.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int,
        phrase_masks: Sequence[str] = (),
        phrases: str = "nltk",
        categories: Sequence[str] = (),
    ):
        special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_tokens <= special:
            raise UserError(f"max_tokens={max_tokens} leaves no room for a word beside {special} special tokens.")
        unknown = set(phrase_masks) - set(PHRASE_KEYS)
        if unknown:
            raise UserError(f"Unknown phrase masks {sorted(unknown)}; there are {', '.join(PHRASE_KEYS)}.")
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())  # a copy: cutting and padding are done here
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.max_tokens = max_tokens
        self.phrase_masks = tuple(phrase_masks)
        self.finder = make_phrase_finder(phrases, categories) if phrase_masks else None
        padding = tokenizer.padding
        self.pad_id = int(padding["pad_id"]) if padding else 0
        token = getattr(tokenizer.model, "unk_token", None)
        self.unknown_id = tokenizer.token_to_id(token) if token is not None else None

    @property
    def tagger(self) -> str | None:
        """What tags parts of speech for the phrases, ``"perceptron"`` or ``"lexicon"``; None without phrases."""
        return None if self.finder is None else self.finder.tagger

    def __call__(self, expressions: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenise expressions.

        Returns:
            ``input_ids``, ``attention_mask`` and the phrase masks asked for: int64 (B, L), padded at the end.

        Raises:
            UserError: an expression is empty or the vocabulary does not know its language.
        """
        unique = list(dict.fromkeys(expressions))
        encodings = self._encode(unique)
        shape = (len(unique), self.max_tokens)
        ids_BL = np.full(shape, self.pad_id, dtype=np.int64)
        attention_BL = np.zeros(shape, dtype=np.int64)
        phrases = {key: np.zeros(shape, dtype=np.int64) for key in self.phrase_masks}
        for row, (expression, encoding) in enumerate(zip(unique, encodings, strict=True)):
            kept = self._kept(encoding)
            ids_BL[row, : len(kept)] = np.array(encoding.ids)[kept]
            attention_BL[row, : len(kept)] = 1
            if self.finder is not None:
                found = self.finder(expression, [encoding.offsets[i] for i in kept])
                for key in self.phrase_masks:
                    phrases[key][row, : len(kept)] = found[key]
        row_of = {expression: row for row, expression in enumerate(unique)}
        rows = np.array([row_of[expression] for expression in expressions], dtype=np.int64)
        arrays = {"input_ids": ids_BL, "attention_mask": attention_BL, **phrases}
        return {key: array_BL[rows] for key, array_BL in arrays.items()}

    def report(self, expressions: Sequence[str]) -> TextReport:
        """Count truncated expressions and unknown tokens (same refusals as a call)."""
        encodings = self._encode(expressions)
        lengths = [len(encoding.ids) for encoding in encodings]
        return TextReport(
            n=len(expressions),
            truncated=sum(length > self.max_tokens for length in lengths),
            longest=max(lengths, default=0),
            unknown=sum(self._unknown(encoding) for encoding in encodings),
            tokens=sum(self._words(encoding) for encoding in encodings),
        )

    def _encode(self, expressions: Sequence[str]) -> list[Encoding]:
        """Encode without truncation or padding, and refuse what no model can read."""
        for index, expression in enumerate(expressions):
            if not expression.strip():
                raise UserError(f"Expression {index} is empty; every sample needs a referring expression.")
        encodings = self.tokenizer.encode_batch(list(expressions))
        if self.unknown_id is not None:
            self._refuse_unknown(expressions, encodings)
        return encodings

    def _refuse_unknown(self, expressions: Sequence[str], encodings: list[Encoding]) -> None:
        """Refuse expressions that the vocabulary does not cover, such as Chinese ones in an English vocabulary."""
        unknown = [self._unknown(encoding) for encoding in encodings]
        tokens = [self._words(encoding) for encoding in encodings]
        share = sum(unknown) / max(1, sum(tokens))
        worst = max(range(len(unknown)), key=lambda i: unknown[i] / max(1, tokens[i]), default=None)
        if worst is None or not sum(unknown):
            return
        worst_share = unknown[worst] / max(1, tokens[worst])
        if share > MAX_UNKNOWN_SHARE or worst_share > MAX_UNKNOWN_SHARE_ONE:
            raise UserError(
                f"The vocabulary does not know {share:.0%} of the tokens of {len(expressions)} expressions (at most "
                f"{MAX_UNKNOWN_SHARE:.0%}, and {MAX_UNKNOWN_SHARE_ONE:.0%} of a single one, are accepted); the worst "
                f"is '{expressions[worst]}' with {worst_share:.0%}. Is it another language than the vocabulary's? "
                f"Choose a tokenizer for it ({_OVERRIDE}), or expressions in the vocabulary's language."
            )

    def _kept(self, encoding: Encoding) -> list[int]:
        """Indices of the tokens that fit: the end is cut off, closing special tokens stay."""
        special = encoding.special_tokens_mask
        closing = 0
        while closing < len(special) and special[len(special) - 1 - closing]:
            closing += 1
        over = max(0, len(special) - self.max_tokens)
        body_end = len(special) - closing - over
        return [*range(body_end), *range(len(special) - closing, len(special))]

    def _unknown(self, encoding: Encoding) -> int:
        return sum(token == self.unknown_id for token in encoding.ids)

    def _words(self, encoding: Encoding) -> int:
        return len(encoding.ids) - sum(encoding.special_tokens_mask)


def bert_tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """A lower-casing BERT tokenizer over a vocabulary whose line numbers are the ids.

    Accents are stripped and Chinese characters are split one by one, as in Google's uncased BERT.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    missing = [token for token in SPECIAL_TOKENS[:4] if token not in ids]
    if missing:
        raise UserError(f"The vocabulary lacks {', '.join(missing)}; it is not a BERT vocabulary.")
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True, handle_chinese_chars=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in ids])
    return tokenizer


def build_wordpiece(expressions: Iterable[str], vocab_size: int) -> Tokenizer:
    """Build a small WordPiece vocabulary from expressions, the same for the same multiset of expressions.

    Special tokens first; then every character seen and a to z, 0 to 9, alone and as ``##`` continuation, so that an
    unseen word is spelt out; then whole words by falling frequency, ties by the alphabet, until `vocab_size`.

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
            "the expressions. Raise size.bert.vocab_size."
        )
    known = set(vocabulary)
    ranked = sorted((word for word in words if word not in known), key=lambda word: (-words[word], word))
    return bert_tokenizer([*vocabulary, *ranked[: vocab_size - len(vocabulary)]])


def save_vocabulary(tokenizer: Tokenizer, path: Path) -> None:
    """Write vocab.txt, one token per line in the order of the ids; `load_tokenizer` reads it back."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    path.write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")


def load_tokenizer(source: str | Path) -> Tokenizer:
    """Load a tokenizer, with character offsets.

    Args:
        source: ``hub:<id>`` (the local Hugging Face cache, or its hub), a folder, or an uncased BERT's ``vocab.txt``.

    Raises:
        UserError: it is not there, or the hub cannot be reached (within seconds), with the override to use.
    """
    text = str(source)
    if text.startswith("hub:"):
        return _from_folder(_download(text.removeprefix("hub:")), text)
    path = Path(text).expanduser()
    if path.is_dir():
        return _from_folder(path, text)
    if not path.is_file():
        raise UserError(f"There is no tokenizer at {path}: {_OVERRIDE}, or hub:<id>.")
    return bert_tokenizer(path.read_text(encoding="utf-8").splitlines())


def _download(hub_id: str) -> Path:
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
            f"tokenizer.json tokenizer_config.json config.json) and {_OVERRIDE}."
        ) from None


def _from_folder(folder: Path, source: str) -> Tokenizer:
    """Read a folder through transformers; a bare vocab.txt is taken for a lower-casing BERT's."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        if (folder / "vocab.txt").is_file():
            return bert_tokenizer((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
        raise UserError(f"{source} holds no tokenizer.json, tokenizer_config.json or vocab.txt: {_OVERRIDE}.")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"The tokenizer in {folder} cannot be read ({error}): {_OVERRIDE}.") from None
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise UserError(f"The tokenizer of {source} is not a fast one and gives no character offsets: {_OVERRIDE}.")
    tokenizer: Tokenizer = loaded.backend_tokenizer
    if loaded.pad_token_id is not None:
        tokenizer.enable_padding(pad_id=loaded.pad_token_id, pad_token=str(loaded.pad_token))
    return tokenizer
