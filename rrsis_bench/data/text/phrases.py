"""Ground-object and spatial-position phrases of an expression, for FIANet (Lei et al., TGRS 2024, section III).

The paper parses each expression with NLTK "based on each dataset's predefined ground object categories". Here:

- the **object phrase** is every mention of a category of the dataset (`MWETokenizer` over the names, their spelt-out
  forms and plurals), the category's words only: the paper names no modifiers;
- the **position phrase** is every prepositional phrase (`RegexpParser` over part-of-speech tags), except those that
  the word "of" opens, as in the authors' code: "on the left of the bridge" gives "on the left";
- both are projected on word pieces by character offsets; if nothing is found, the whole expression is marked.

The authors' code differs. ``phrase_matching=word_index`` reproduces it for parity:

- *word* positions plus one are written to *word-piece* positions;
- only spelt-out names in lower case are found, also inside of words; without one the object mask is all zero;
- phrases end in one singular noun, and those that contain the letters "of" anywhere ("on the roof") are dropped.

Only the lists that outgrow its token limit are cut.

No NLTK data is needed: tags come from a lexicon. Where ``averaged_perceptron_tagger_eng`` is installed, it tags
instead, as in the authors' code; `PhraseFinder.tagger` says which one did.

The lexicon was compared with spaCy's tagger (3.8, en_core_web_sm) on real sentences. The position phrases are the same
in 99.8% of 13,523 sentences of RRSIS-D and in 80.5% of 400 sentences of RISBench. The marked words have an IoU of
99.6% and 94.2%. Tags are of one class for 96.3% and 89.2% of the words. That was before "slender", "cyan" and six more
adjectives were added, which `docs/rrsisd_language.md` lists. Many differences in RISBench are "left" and
"right" at the end of a phrase ("on the bottom left"): spaCy calls them adjectives, and the phrase loses them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import nltk
from nltk.tokenize import MWETokenizer, NLTKWordTokenizer, TreebankWordTokenizer

from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.categories import table_of
from rrsis_bench.errors import unknown

PHRASE_KEYS = ("object_mask", "position_mask")

Span = tuple[int, int]

_WORD_INDEX_GRAMMAR = r"""
    PP: {<IN><DT>?<JJ.*>?<NN>}
        {<IN><DT>?<JJ.*>?<JJ>}
        {<IN><DT>?<JJ.*><VBD>}
"""
# Beside the authors' rules: "to", also after the word that it belongs to ("next to"), plurals, several words before the
# noun and in it, adverbs before the noun ("at the very bottom") and inside it ("at the right-most edge").
_GRAMMAR = r"""
    PP: {<JJ.*|VBN|RB>?<TO><DT|PRP\$>*<JJ.*|VB[DGN]|CD|RB>*<NN.*>+(<RB><VB[DN]>?<NN.*>+)?}
        {<IN>+<DT|PRP\$>*<JJ.*|VB[DGN]|CD|RB>*<NN.*>+(<RB><VB[DN]>?<NN.*>+)?}
        {<IN>+<DT|PRP\$>*<JJ.*|VB[DN]|CD>+}
"""

# Prepositions that say where without a noun at the end of an expression: "the airplane above".
_ALONE = frozenset({"above", "below", "beneath", "underneath", "behind", "nearby", "opposite"})

# What is left of a token without hyphens, slashes and the quotes around it; "isn't" stays whole.
_WORD = re.compile(r"[^\-/']+(?:'[^\-/']+)*")

# Joins the words of a category mention; no word holds it.
_JOIN = "\x1f"


class PhraseFinder(ABC):
    """Finds phrases and writes them onto tokens. Picklable.

    Attributes:
        tagger: ``"perceptron"`` or ``"lexicon"``, whichever tags parts of speech on this machine.
    """

    def __init__(self) -> None:
        self.tagger = lexicon.tagger_name()

    @abstractmethod
    def __call__(self, expression: str, offsets: Sequence[Span]) -> dict[str, list[int]]:
        """Mark the phrases of one expression.

        Args:
            expression: the text.
            offsets: (start, end) characters of each token that fits, special tokens as (0, 0).

        Returns:
            ``object_mask`` and ``position_mask``: 0 or 1 per token.
        """


class OffsetPhraseFinder(PhraseFinder):
    """Phrases by words, projected on tokens by character offsets (``phrase_matching=nltk``)."""

    def __init__(self, categories: Iterable[str]):
        super().__init__()
        self._names = MWETokenizer([], separator=_JOIN)
        self._single: set[str] = set()
        names = tuple(categories)
        table = table_of(names)  # that of the category parser too
        for form in {form for name in names for form in lexicon.category_forms(name, table[name])}:
            if len(form) == 1:
                self._single.add(form[0])
            else:
                self._names.add_mwe(form)

    def object_spans(self, expression: str) -> list[Span]:
        """Character spans of the category mentions."""
        words = word_spans(expression)
        spans, start = [], 0
        for merged in self._names.tokenize([expression[a:b].lower() for a, b in words]):
            count = merged.count(_JOIN) + 1
            if count > 1 or merged in self._single:
                spans.append((words[start][0], words[start + count - 1][1]))
            start += count
        return spans

    def position_spans(self, expression: str) -> list[Span]:
        """Character spans of the prepositional phrases, those with the word "of" left out."""
        words = word_spans(expression)
        texts = [expression[a:b] for a, b in words]
        found = [
            (words[start][0], words[end - 1][1])
            for start, end in prepositional_phrases(texts)
            if all(word.lower() != "of" for word in texts[start:end])
        ]
        last = next((index for index in reversed(range(len(words))) if texts[index].isalnum()), None)
        if last is not None and texts[last].lower() in _ALONE and not any(words[last][0] < end for _, end in found):
            found.append(words[last])
        return found

    def __call__(self, expression: str, offsets: Sequence[Span]) -> dict[str, list[int]]:
        """See `PhraseFinder`; a phrase that is absent or cut off is replaced by the whole expression."""
        return {
            "object_mask": _project(self.object_spans(expression), offsets),
            "position_mask": _project(self.position_spans(expression), offsets),
        }


class WordIndexPhraseFinder(PhraseFinder):
    """The authors' behaviour (``phrase_matching=word_index``): word positions plus one on word pieces."""

    def __init__(self, categories: Iterable[str]):
        super().__init__()
        self._categories = [lexicon.spelt_out(category) for category in categories]

    def __call__(self, expression: str, offsets: Sequence[Span]) -> dict[str, list[int]]:
        """See `PhraseFinder`; the object mask may be all zero."""
        words = NLTKWordTokenizer().tokenize(expression)
        length = len(offsets)
        object_mask, position_mask = [0] * length, [0] * length
        for category in self._categories:
            if " ".join(category) in expression:
                _mark(object_mask, _first(category[0] in word for word in words), len(category))
        for start, end in _chunks(words, _WORD_INDEX_GRAMMAR):
            if "of" not in " ".join(words[start:end]):
                _mark(position_mask, _first(word == words[start] for word in words), end - start)
        return {"object_mask": object_mask, "position_mask": position_mask if any(position_mask) else [1] * length}


_FINDERS: dict[str, Callable[[Iterable[str]], PhraseFinder]] = {
    "nltk": OffsetPhraseFinder,
    "word_index": WordIndexPhraseFinder,
}


def make_phrase_finder(matching: str, categories: Iterable[str]) -> PhraseFinder:
    """Return the finder named ``"nltk"`` or ``"word_index"``; raises UserError for another name."""
    if matching not in _FINDERS:
        raise unknown("phrase_matching", matching, _FINDERS)
    return _FINDERS[matching](categories)


def word_spans(expression: str) -> list[Span]:
    """Character spans of words; hyphenated words are taken apart, so that "tennis-court" is two."""
    text = expression.replace('"', "'")  # the tokenizer rewrites double quotes and then fails to find them again
    spans: list[Span] = []
    for start, end in TreebankWordTokenizer().span_tokenize(text):
        parts = [(start + part.start(), start + part.end()) for part in _WORD.finditer(text[start:end])]
        spans.extend(parts or [(start, end)])
    return spans


Tagger = Callable[[Sequence[str]], list[tuple[str, str]]]


def prepositional_phrases(words: Sequence[str], tagger: Tagger = lexicon.tag) -> list[Span]:
    """Return (start, end) word positions of the prepositional phrases, those with "of" included."""
    return _chunks(words, _GRAMMAR, tagger)


def _chunks(words: Sequence[str], grammar: str, tagger: Tagger = lexicon.tag) -> list[Span]:
    """(start, end) word positions of the PP chunks."""
    if not words:
        return []
    chunks, position = [], 0
    for node in _parser(grammar).parse(tagger(words)):
        size = len(node) if isinstance(node, nltk.Tree) else 1
        if isinstance(node, nltk.Tree):
            chunks.append((position, position + size))
        position += size
    return chunks


@lru_cache(maxsize=4)
def _parser(grammar: str) -> nltk.RegexpParser:
    return nltk.RegexpParser(grammar)


def _project(spans: Sequence[Span], offsets: Sequence[Span]) -> list[int]:
    """1 for each token that overlaps a span; all ones where none does."""
    mask = [int(any(start < b and a < end for a, b in spans)) for start, end in offsets]
    return mask if any(mask) else [1] * len(offsets)


def _first(matches: Iterable[bool]) -> int:
    """Position of the first match, 0 where there is none (as the authors' loop leaves it)."""
    return next((index for index, match in enumerate(matches) if match), 0)


def _mark(mask: list[int], word: int, count: int) -> None:
    """Set `count` places from word position + 1 on, within the mask."""
    for place in range(word + 1, min(word + 1 + count, len(mask))):
        mask[place] = 1
