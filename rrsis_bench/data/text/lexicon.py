"""Words of referring expressions: parts of speech without downloads, and the forms of category names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import nltk
from nltk.tag import RegexpTagger, UnigramTagger

_TAGGED_WORDS = """
DT the a an this that these those each every another some all both no
IN on in at near of from with without within by beside besides between behind above below under underneath beneath over
IN across along alongside around through toward towards against inside outside into onto among amid opposite past off
IN up down before after like than for as via beyond throughout upon
TO to
CC and or but
CD one two three four five six seven eight nine ten
JJ upper lower big small large tiny huge long short narrow wide round red blue green white black gray grey yellow orange
JJ brown pink purple silver dark light bright first second third fourth fifth last next close adjacent parallel other
JJ rectangular circular square oval curved straight same only main central northern southern eastern western vertical
JJ horizontal diagonal bigger smaller larger closer nearer slender cyan little similar several distinct narrower wider
JJS biggest smallest largest longest shortest nearest closest farthest furthest
NN left right top bottom middle center centre side corner edge part half image picture front back roof grass north south
NN east west bus bed field building crossing parking swimming landing
VBZ is has lies stands extends sits runs appears occupies spans remains stretches covers crosses leads faces points
VBZ features serves connects includes contains shows forms
VBP are have
VBD was were
WDT which
RB very slightly not there most almost just much far
PRP$ its their
"""

_ENDINGS = [
    (r"^-?\d+([.,]\d+)*$", "CD"),
    (r"^\d+(st|nd|rd|th)$", "JJ"),
    (r"^.+most$", "JJS"),
    (r"^.+ing$", "VBG"),
    (r"^.+ed$", "VBN"),
    (r"^.+ly$", "RB"),
    (r"^[^\w]+$", "."),
    (r"^.+[^s]s$", "NNS"),
    (r".*", "NN"),
]

_NO_OBJECTS = """
image picture photo photograph scene frame view part portion half section quarter quadrant area region third
colour color shape size orientation direction position location form appearance category relation manner far end s
"""  # the last one is what a possessive leaves
NO_OBJECTS = frozenset(_NO_OBJECTS.split())
"""Nouns behind a preposition that are no object: the image and its parts, and properties of the object itself."""

# Category names of these datasets are often written together; the words that they consist of.
_NAME_WORDS = (
    "baseball", "basketball", "tennis", "golf", "ground", "track", "storage", "train", "swimming", "soccer", "ball",
    "football", "badminton", "rugby", "court", "field", "tank", "station", "pool", "service", "toll", "area",
    "expressway", "road", "air", "plane", "wind", "mill", "turbine", "parking", "lot", "container", "crane",
    "diamond",
)  # fmt: skip
# Names that are one word in English although parts of them are words.
_WHOLE_NAMES = ("airplane", "windmill")


IMAGE_WORDS = frozenset(("image", "picture", "photo", "photograph", "frame", "scene", "view", "map", "area"))
"""Words by which sentences mean the whole image: "on the left of the picture"."""


@lru_cache(maxsize=1)
def perceptron_present() -> bool:
    """Whether NLTK's ``averaged_perceptron_tagger_eng`` is installed."""
    try:
        nltk.data.find("taggers/averaged_perceptron_tagger_eng/")
    except LookupError:
        return False
    return True


def tagger_name() -> str:
    """Which tagger `tag` uses, ``"perceptron"`` or ``"lexicon"``."""
    return "perceptron" if perceptron_present() else "lexicon"


def tag(words: Sequence[str]) -> list[tuple[str, str]]:
    """Part of speech (Penn Treebank) of each word, by the perceptron tagger where present, else by the lexicon."""
    if perceptron_present():
        tagged: list[tuple[str, str]] = nltk.pos_tag(list(words))
        return tagged
    return tag_by_lexicon(words)


def tag_by_lexicon(words: Sequence[str]) -> list[tuple[str, str]]:
    """Part of speech (Penn Treebank) of each word by the lexicon, the same on every machine."""
    return [(word, found) for word, (_, found) in zip(words, _tagger().tag([w.lower() for w in words]), strict=True)]


def is_known(word: str) -> bool:
    """Return whether the lexicon lists a word, in any letter case. Other words are tagged by their endings."""
    return word.lower() in _listed()


@lru_cache(maxsize=1)
def _listed() -> dict[str, str]:
    lines = [line.split() for line in _TAGGED_WORDS.strip().splitlines()]
    return {word: found for found, *listed in lines for word in listed}


@lru_cache(maxsize=1)
def _tagger() -> UnigramTagger:
    return UnigramTagger(model=_listed(), backoff=RegexpTagger(_ENDINGS))


def spelt_out(category: str) -> tuple[str, ...]:
    """The words of a category name, lower-cased: ``"tenniscourt"`` -> ``("tennis", "court")``."""
    parts = re.split(r"[\s_\-]+", category.strip().lower())
    return tuple(word for part in parts for word in _split_compound(part))


def category_forms(category: str, aliases: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Every form in which an expression may name a category, as tuples of words, singular and plural.

    Args:
        category: the name.
        aliases: other names for it, see `categories.table_of`.
    """
    words = spelt_out(category)
    forms = {words, ("".join(words),), *(tuple(alias.split()) for alias in aliases)}
    return sorted(forms | {(*form[:-1], _plural(form[-1])) for form in forms})


def _split_compound(name: str) -> list[str]:
    """Split a name that is written together into known words; one that does not split is one word."""
    if name in _WHOLE_NAMES:
        return [name]
    best: list[list[str] | None] = [[], *[None] * len(name)]
    for end in range(1, len(name) + 1):
        for word in _NAME_WORDS:
            head = best[end - len(word)] if len(word) <= end else None
            if head is not None and name.endswith(word, 0, end):
                best[end] = [*head, word]
                break
    return best[-1] or [name]


def _plural(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")
