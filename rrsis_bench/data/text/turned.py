"""Result and refusal of an exchange of words, for all languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An expression after an exchange of words.

    Attributes:
        text: the expression.
        words: how many words or phrases were exchanged.
    """

    text: str
    words: int


class Unclear(ValueError):
    """A word of an expression may mean something else, so that an exchange might make the expression wrong.

    Attributes:
        word: the word with its neighbours.
    """

    def __init__(self, word: str):
        super().__init__(f"the meaning of '{word}' is unclear")
        self.word = word
