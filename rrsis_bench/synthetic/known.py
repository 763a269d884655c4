"""What the generator knows beyond the files of a split: the objects of an image, and the truth of other sentences."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from rrsis_bench.data.pixels import rle
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic.language.expressions import Expression
from rrsis_bench.synthetic.language.realise import negated, realisations
from rrsis_bench.synthetic.language.semantics import (
    NO,
    PLACES,
    RELATIONS,
    SIDES,
    Query,
    SceneObject,
    denotes,
    verdicts,
)
from rrsis_bench.synthetic.scene import lay_out, union_HW
from rrsis_bench.synthetic.spec import SceneSpec

Known = tuple[tuple[SceneObject, ...], Expression]
"""The objects of a sample's image, and its expression."""


class SyntheticScenes:
    """The scenes of one split, as the probes ask for them; drawn again from the spec when first needed.

    Args:
        spec: the data set.
        split: of it.
        expressions: of the samples, in the order of the files; a part of the split is its first samples.
    """

    def __init__(self, spec: SceneSpec, split: str, expressions: Sequence[str]):
        self._spec, self._split, self._expressions = spec, split, list(expressions)

    @cached_property
    def known(self) -> list[Known]:
        """One entry per sample; UserError if the files hold other samples."""
        found: list[Known] = []
        for index in range(self._spec.scenes(self._split)):
            if len(found) >= len(self._expressions):
                break
            _, objects, expressions = lay_out(self._spec, self._split, index)
            found += [(objects, expression) for expression in expressions]
        found = found[: len(self._expressions)]
        if [expression.text for _, expression in found] != self._expressions:
            raise UserError(
                f"The {self._split} samples are not those of data.synthetic, so the objects of their images are "
                "unknown. Remove the probes negation, attribute_swap and absent, or delete the folder in data.root."
            )
        return found

    def present(self, index: int) -> frozenset[str]:
        """Return the categories of all objects in the image of sample `index`."""
        objects, _ = self.known[index]
        return frozenset(item.category for item in objects)

    def changed(self, index: int, kind: str) -> tuple[str, rle.Rle] | None:
        """Return a changed expression about the same image, with its mask; None if there is no sure one.

        Args:
            index: the sample.
            kind: ``"negation"``: all objects of the category without the attribute; ``"attribute_swap"``: another
                value of one attribute, which other objects have.
        """
        objects, expression = self.known[index]
        found = (negation if kind == "negation" else attribute_swap)(objects, expression)
        if found is None:
            return None
        text, targets = found
        return text, rle.encode(union_HW([objects[i] for i in targets], objects[0].mask_HW.shape))


def negation(objects: Sequence[SceneObject], expression: Expression) -> tuple[str, tuple[int, ...]] | None:
    """Return the negated expression and the objects that it denotes; None if there are none, or it is not sure."""
    if not expression.targets:
        return None
    judged = verdicts(expression.query, objects)  # sure of every object, or it would be no expression
    others = tuple(
        index for index, item in enumerate(objects) if item.category == expression.category and judged[index] == NO
    )
    template = _template(expression)
    if not others or template is None:
        return None
    text = negated(expression.query, expression.language, template, plural=len(others) > 1)
    return None if text is None else (text, others)


def attribute_swap(objects: Sequence[SceneObject], expression: Expression) -> tuple[str, tuple[int, ...]] | None:
    """Return the expression with another value of one attribute, and what it denotes: no object of the old targets."""
    template = _template(expression)
    if not expression.targets or template is None:
        return None
    options = []
    for query in _swaps(expression.query, objects):
        targets = denotes(query, objects)
        words = realisations(query, expression.language)
        if targets and template < len(words) and not set(targets) & set(expression.targets):
            options.append((words[template], targets))
    if not options:
        return None
    options.sort()
    return options[zlib.crc32(expression.text.encode()) % len(options)]


def _template(expression: Expression) -> int | None:
    words = realisations(expression.query, expression.language)
    return words.index(expression.text) if expression.text in words else None


def _swaps(query: Query, objects: Sequence[SceneObject]) -> Iterator[Query]:
    """Yield the queries that differ from `query` in the value of one attribute."""
    colours = sorted({item.colour for item in objects if item.category == query.category and item.colour})
    values: dict[str, Sequence[str | int]] = {
        "colour": colours, "place": PLACES, "size": ("largest", "smallest"), "side": SIDES, "rank": (2, 3),
        "relation": RELATIONS,
    }  # fmt: skip
    for name, others in values.items():
        have = getattr(query, name)
        if have is not None and query.number is None:
            yield from (replace(query, **{name: other}) for other in others if other != have)  # type: ignore[arg-type]
