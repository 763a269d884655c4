"""Does an expression name another object beside the one that it denotes?"""

from __future__ import annotations

from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.language import POSITION_WORDS
from rrsis_bench.data.text.phrases import OffsetPhraseFinder, prepositional_phrases, word_spans

_OF_ITSELF = ("with", "without")  # they open parts of the object: "with a white roof"


def names_relation(expression: str, finder: OffsetPhraseFinder) -> bool:
    """Return whether an English expression names another object.

    It does if it names a category at two places, or if a prepositional phrase has a noun that is no place word, no part
    of the image and no property: "a ship near the dock" has one, "a ship near the edge" and "a tank with a white roof"
    have none. The result does not depend on the machine: parts of speech come from the lexicon.

    Args:
        expression: the text.
        finder: of the dataset's categories.
    """
    mentions = finder.object_spans(expression)
    if len(mentions) > 1:
        return True
    spans = word_spans(expression)
    words = [expression[start:end].lower() for start, end in spans]
    tags = [tag for _, tag in lexicon.tag_by_lexicon(words)]
    for start, end in prepositional_phrases(words, lexicon.tag_by_lexicon):
        if words[start] in _OF_ITSELF:
            continue
        for index in range(start, end):
            word, place = words[index], spans[index][0]
            is_mention = any(first <= place < last for first, last in mentions)
            no_object = {word, word.removesuffix("s")} & (lexicon.NO_OBJECTS | POSITION_WORDS)
            if tags[index].startswith("NN") and not is_mention and not no_object:
                return True
    return False
