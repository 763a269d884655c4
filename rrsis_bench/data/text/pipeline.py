"""Expressions to token ids: the pipeline that a loader applies once to a whole split; vocabularies: `tokenizers.py`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.heads import HEAD_KEY, make_head_finder, token_heads
from rrsis_bench.data.text.nouns import NOUN_KEY, mark_nouns
from rrsis_bench.data.text.phrases import PHRASE_KEYS, make_phrase_finder
from rrsis_bench.errors import UserError

WORD_KEY = "word_mask"
"""Text key that marks the expression's own tokens: 0 on special tokens and padding (SGSRF's consistency loss)."""

MAX_UNKNOWN_SHARE = 0.20
"""Above this share of unknown tokens in a set of expressions the vocabulary is taken for the wrong one. English RRSIS
expressions in an English vocabulary have almost none; of Chinese ones, most tokens: a model would read noise."""

MAX_UNKNOWN_SHARE_ONE = 0.5
"""The same for a single expression: one expression of another language must not hide in a large set."""


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


def closing_tokens(encoding: Encoding) -> int:
    """Return the number of special tokens at the end."""
    special = encoding.special_tokens_mask
    return next((n for n, flag in enumerate(reversed(special)) if not flag), len(special))


def lost_text(expression: str, encoding: Encoding, max_tokens: int) -> str:
    """Return the words of an expression that do not fit as a whole into `max_tokens`; empty if all of them do."""
    total = len(encoding.ids)
    if total <= max_tokens:
        return ""
    start = encoding.offsets[max_tokens - closing_tokens(encoding)][0]
    while start and expression[start - 1].isalnum() and expression[start].isalnum():  # a word that is cut in two
        start -= 1
    return expression[start:]


class TextPipeline:
    """Turns expressions into token arrays (and, where asked, masks over the tokens). Picklable.

    Args:
        tokenizer: from `load_tokenizer` or `build_wordpiece`.
        max_tokens: L; special tokens and padding included. Longer expressions lose their end, never the closing token.
        phrase_masks: which of ``("object_mask", "position_mask", "word_mask", "noun_mask", "head_ids")`` to add. The
            first two mark phrases (FIANet), ``word_mask`` every token of the expression itself, so no special token and
            no padding, ``noun_mask`` one run of nouns (RIS-DMMI). ``head_ids`` is the place of every token's syntactic
            head (LSCM); see `heads.py`.
        phrase_matching: ``"nltk"`` or ``"word_index"``, the authors' behaviour; see `phrases.py`.
        categories: the dataset's category names, which the object phrases are looked up in.
        parser: finds the heads; see `heads.make_head_finder`.

    Raises:
        UserError: an unknown phrase key or behaviour, L too small for any word, or a parser that is not installed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int,
        phrase_masks: Sequence[str] = (),
        phrase_matching: str = "nltk",
        categories: Sequence[str] = (),
        parser: str | None = None,
    ):
        special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_tokens <= special:
            raise UserError(f"max_tokens={max_tokens} leaves no room for a word beside {special} special tokens.")
        known = (*PHRASE_KEYS, WORD_KEY, NOUN_KEY, HEAD_KEY)
        unknown = set(phrase_masks) - set(known)
        if unknown:
            raise UserError(f"Unknown phrase masks {sorted(unknown)}; there are {', '.join(known)}.")
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())  # a copy: cutting and padding are done here
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.max_tokens = max_tokens
        self.phrase_masks = tuple(phrase_masks)
        finds = any(key in PHRASE_KEYS for key in self.phrase_masks)
        self.finder = make_phrase_finder(phrase_matching, categories) if finds else None
        self.heads = None
        if HEAD_KEY in self.phrase_masks:
            if parser is None:
                raise UserError(f"The text key {HEAD_KEY} needs a parser. Set `head_parser` on the model.")
            self.heads = make_head_finder(parser)
        padding = tokenizer.padding
        self.pad_id = int(padding["pad_id"]) if padding else 0
        token = getattr(tokenizer.model, "unk_token", None)
        self.unknown_id = tokenizer.token_to_id(token) if token is not None else None

    @property
    def tagger(self) -> str | None:
        """What tags parts of speech for phrases and nouns, ``"perceptron"`` or ``"lexicon"``; None without them."""
        tags = self.finder is not None or NOUN_KEY in self.phrase_masks
        return lexicon.tagger_name() if tags else None

    def lenient(self) -> TextPipeline:
        """Return the same pipeline without the refusal of unknown words: a typing error is one, and is asked for."""
        found = copy.copy(self)
        found.unknown_id = None
        return found

    def __call__(self, expressions: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenise expressions.

        Returns:
            ``input_ids``, ``attention_mask`` and the masks asked for: int64 (B, L), padded at the end.

        Raises:
            UserError: an expression is empty or the vocabulary does not know its language.
        """
        unique = list(dict.fromkeys(expressions))
        encodings = self._encode(unique)
        shape = (len(unique), self.max_tokens)
        ids_BL = np.full(shape, self.pad_id, dtype=np.int64)
        attention_BL = np.zeros(shape, dtype=np.int64)
        masks = {key: np.zeros(shape, dtype=np.int64) for key in self.phrase_masks}
        if self.heads is not None:
            masks[HEAD_KEY] += np.arange(self.max_tokens)
            heads = self.heads([_words_of(*pair) for pair in zip(unique, encodings, strict=True)])
        for row, (expression, encoding) in enumerate(zip(unique, encodings, strict=True)):
            kept = self._kept(encoding)
            ids_BL[row, : len(kept)] = np.array(encoding.ids)[kept]
            attention_BL[row, : len(kept)] = 1
            if self.finder is not None:
                found = self.finder(expression, [encoding.offsets[i] for i in kept])
                for key in found.keys() & masks.keys():
                    masks[key][row, : len(kept)] = found[key]
            if self.heads is not None:
                masks[HEAD_KEY][row, : len(kept)] = token_heads(heads[row], encoding.word_ids, kept)
            if NOUN_KEY in masks:
                masks[NOUN_KEY][row, : len(kept)] = mark_nouns(expression, [encoding.offsets[i] for i in kept])
            if WORD_KEY in masks:
                masks[WORD_KEY][row, : len(kept)] = 1 - np.array(encoding.special_tokens_mask)[kept]
        row_of = {expression: row for row, expression in enumerate(unique)}
        rows = np.array([row_of[expression] for expression in expressions], dtype=np.int64)
        arrays = {"input_ids": ids_BL, "attention_mask": attention_BL, **masks}
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
                "text=bert_zh reads Chinese and text=bert_multilingual English and Chinese; text.tokenizer=/path/to/it "
                "names another tokenizer. A vocabulary of the training expressions (text.tokenizer=wordpiece) knows "
                "their characters alone: take more of them, or expressions in their language."
            )

    def _kept(self, encoding: Encoding) -> list[int]:
        """Indices of the tokens that fit: the end is cut off, closing special tokens stay."""
        total = len(encoding.ids)
        closing, cut = closing_tokens(encoding), max(0, total - self.max_tokens)
        return [*range(total - closing - cut), *range(total - closing, total)]

    def _unknown(self, encoding: Encoding) -> int:
        return sum(token == self.unknown_id for token in encoding.ids)

    def _words(self, encoding: Encoding) -> int:
        return len(encoding.ids) - sum(encoding.special_tokens_mask)


def _words_of(expression: str, encoding: Encoding) -> list[str]:
    """Return the lower-case words of an expression that its tokens belong to, in order."""
    spans: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        if word is not None:
            spans[word] = (spans.get(word, (start, end))[0], end)
    return [expression[start:end].lower() for start, end in spans.values()]
