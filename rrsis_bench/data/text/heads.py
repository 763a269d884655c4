"""Syntactic heads of the words of an expression, for LSCM (Hui et al., ECCV 2020): the text key ``head_ids``.

A parser is named ``spacy:<pipeline>``, such as ``spacy:en_core_web_sm``, and needs the extra ``[parse]``. ``chain``
takes the word before as the head and needs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rrsis_bench.errors import UserError, reason

HEAD_KEY = "head_ids"
"""Text key with the token of every word's head: int64 (B, L). A root, a special token and padding have their own."""

NO_PARSER = "none"
CHAIN = "chain"
SPACY = "spacy:"
PIPELINE = "en_core_web_sm"  # the authors'
PARSE_EXTRA = "pip install 'rrsis-bench[parse]'"
FIELD = "model.args.parser"
UNUSED = ("ner", "lemmatizer", "attribute_ruler", "tagger", "senter")  # parts of spaCy's pipelines that no head needs


class HeadFinder(ABC):
    """Finds the head of every word. Picklable.

    Attributes:
        name: parser and version, for the notes of a record.
    """

    name: str

    @abstractmethod
    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return the place of each word's head in its sentence, from 0; a root is its own head."""


class ChainHeads(HeadFinder):
    """The word before is the head, without a parser."""

    name = CHAIN

    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        """See `HeadFinder`."""
        return [[max(place - 1, 0) for place in range(len(words))] for words in sentences]


class SpacyHeads(HeadFinder):
    """The heads of a spaCy pipeline. Words are given, so its tokenizer is not used."""

    def __init__(self, pipeline: str) -> None:
        """Load the pipeline, the name of an installed package or a folder.

        Raises:
            UserError: spaCy or the pipeline is not installed, or the pipeline has no parser.
        """
        import_spacy()
        self.pipeline = pipeline
        meta = _load(pipeline).meta
        version = import_spacy().__version__
        self.name = f"spaCy {version}, {meta['lang']}_{meta['name']} {meta['version']}"

    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        """See `HeadFinder`."""
        nlp, document = _load(self.pipeline), import_spacy().tokens.Doc
        docs = nlp.pipe(document(nlp.vocab, words=list(words)) for words in sentences if words)
        heads = iter([[token.head.i for token in doc] for doc in docs])
        return [next(heads) if words else [] for words in sentences]


def make_head_finder(parser: str) -> HeadFinder:
    """Return the finder of ``spacy:<pipeline>`` or ``chain``; raises UserError for another name."""
    if parser == CHAIN:
        return ChainHeads()
    if parser.startswith(SPACY):
        return SpacyHeads(parser.removeprefix(SPACY))
    raise UserError(f"Unknown {FIELD} '{parser}'. It can be {SPACY}<pipeline>, {CHAIN} or {NO_PARSER}.")


def token_heads(heads: Sequence[int], words_of_tokens: Sequence[int | None], kept: Sequence[int]) -> list[int]:
    """Project the heads of words on the tokens that fit.

    Args:
        heads: place of each word's head among the words.
        words_of_tokens: word of every token; None for a special token.
        kept: the tokens that fit.

    Returns:
        For every kept token, the place of its head among the kept tokens: the first token of its word's head, or of its
        own word if it is not the first one. A token whose head is cut off, and a special token, have their own place.
    """
    first: dict[int, int] = {}
    for place, token in enumerate(kept):
        word = words_of_tokens[token]
        if word is not None:
            first.setdefault(word, place)
    found = []
    for place, token in enumerate(kept):
        word = words_of_tokens[token]
        head = None if word is None else heads[word] if first[word] == place else word
        found.append(place if head is None else first.get(head, place))
    return found


def import_spacy() -> Any:
    """Import spaCy.

    Raises:
        UserError: it is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise UserError(
            f"The heads of words come from spaCy, which cannot be imported ({reason(error)}). Install it with: "
            f"{PARSE_EXTRA} && python -m spacy download {PIPELINE}\n"
            f"{FIELD}={CHAIN} needs no parser. It is another variant, and the row's label names it."
        ) from error
    return spacy


@lru_cache(maxsize=2)
def _load(pipeline: str) -> Any:
    try:
        nlp = import_spacy().load(pipeline, exclude=list(UNUSED))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The spaCy pipeline '{pipeline}' of {FIELD} cannot be loaded: {reason(error)}\n"
            f"Install it with: python -m spacy download {pipeline}"
        ) from error
    if "parser" not in nlp.pipe_names:
        raise UserError(f"The spaCy pipeline '{pipeline}' of {FIELD} has no dependency parser. Name another one.")
    return nlp
