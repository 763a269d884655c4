"""Chooses which expressions a scene is given: enumerates every unambiguous query and draws by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rrsis_bench.synthetic.language.realise import NOUNS, NUMBERS, realise
from rrsis_bench.synthetic.language.semantics import PLACES, RELATIONS, SIDES, Query, SceneObject, denotes
from rrsis_bench.synthetic.spec import SceneSpec

# Chances of each kind, among those that a scene offers.
KIND_WEIGHTS: dict[str, float] = {
    "category": 0.06,
    "colour": 0.19,
    "position": 0.34,
    "colour_position": 0.05,
    "size": 0.22,
    "extreme": 0.10,
    "relation": 0.34,
    "ordinal": 0.24,
}


@dataclass(frozen=True)
class Expression:
    """A referring expression of a scene.

    Attributes:
        text: the words.
        language: ``"en"`` or ``"zh"``.
        targets: indices of the objects denoted; empty for a no-target expression.
        category: RRSIS-D's name of the noun's category.
        query: the meaning.
    """

    text: str
    language: str
    targets: tuple[int, ...]
    category: str
    query: Query


def _queries(category: str, colours: Sequence[str], anchors: Sequence[str], *, plural: bool) -> list[Query]:
    """Enumerate queries about one category, without asking what they denote."""
    out = [Query("category", category, plural=plural)]
    out += [Query("colour", category, colour=colour, plural=plural) for colour in colours]
    out += [Query("position", category, place=place, plural=plural) for place in PLACES]
    out += [Query("relation", category, relation=r, anchor=a, plural=plural) for a in anchors for r in RELATIONS]
    if plural:
        return out
    for colour in colours:
        out += [Query("colour_position", category, colour=colour, place=place) for place in PLACES]
    out += [Query("size", category, size=size) for size in ("largest", "smallest")]
    out += [Query("extreme", category, side=side) for side in SIDES]
    out += [Query("ordinal", category, side=side, rank=rank) for side in SIDES for rank in (2, 3)]
    return out


def _offers(objects: Sequence[SceneObject], *, plural: bool) -> list[tuple[Query, tuple[int, ...]]]:
    """Return every query with a denotation that a person would use of this scene, singular or plural."""
    categories = sorted({item.category for item in objects})
    found = []
    for category in categories:
        peers = [item for item in objects if item.category == category]
        colours = sorted({item.colour for item in peers if item.colour is not None})
        anchors = [other for other in categories if other != category]
        for query in _queries(category, colours, anchors, plural=plural):
            if query.kind == "ordinal" and len(peers) < 3:
                continue
            if query.kind == "colour_position" and len(peers) < 3:
                continue
            targets = denotes(query, objects)
            if targets:
                found.append((query, targets))
    return found


def _absent(objects: Sequence[SceneObject], rng: np.random.Generator) -> Query:
    """Return a query that no object satisfies: a missing category, or a present one with a false attribute."""
    present = sorted({item.category for item in objects})
    options: list[Query] = []
    for category in present:
        peers = [item for item in objects if item.category == category]
        have = {item.colour for item in peers}
        if None not in have:
            options += [
                Query("colour", category, colour=c) for c in ("red", "blue", "white", "yellow") if c not in have
            ]
        options += [Query("position", category, place=place) for place in PLACES]
    options = [query for query in options if denotes(query, objects) == ()]
    missing = [name for name in NOUNS if name not in present]
    if options and rng.integers(3):
        return options[int(rng.integers(len(options)))]
    category = missing[int(rng.integers(len(missing)))]
    place = PLACES[int(rng.integers(len(PLACES)))]
    return Query("position", category, place=place) if rng.integers(2) else Query("category", category)


def _draw(offers: Sequence[tuple[Query, tuple[int, ...]]], rng: np.random.Generator) -> tuple[Query, tuple[int, ...]]:
    """Draw a kind by its weight among the kinds on offer, then one query of that kind."""
    kinds = sorted({query.kind for query, _ in offers})
    weights = [KIND_WEIGHTS[kind] for kind in kinds]
    at = float(rng.random()) * sum(weights)
    kind = kinds[-1]
    for name, weight in zip(kinds, weights, strict=True):
        at -= weight
        if at < 0:
            kind = name
            break
    chosen = [offer for offer in offers if offer[0].kind == kind]
    return chosen[int(rng.integers(len(chosen)))]


def write_expressions(
    objects: Sequence[SceneObject], spec: SceneSpec, rng: np.random.Generator
) -> tuple[Expression, ...] | None:
    """Return `spec.expressions_per_image` expressions, or None where the scene does not offer enough.

    Expressions of one scene differ in their words, and denote different objects for as long as there are any.
    """
    single, several = _offers(objects, plural=False), _offers(objects, plural=True)
    out: list[Expression] = []
    for _ in range(spec.expressions_per_image):
        luck = float(rng.random())
        language = spec.languages[int(rng.integers(len(spec.languages)))]
        if luck < spec.no_target:
            found = _say([(_absent(objects, rng), ())], out, language, rng)
        else:
            pool = several if luck < spec.no_target + spec.multi_target else single
            said, used = {item.query for item in out}, {item.targets for item in out}
            fresh = [offer for offer in pool if offer[0] not in said]
            found = _say([offer for offer in fresh if offer[1] not in used] or fresh or pool, out, language, rng)
        if found is None:
            return None
        out.append(found)
    return tuple(out)


def _say(
    pool: Sequence[tuple[Query, tuple[int, ...]]], out: Sequence[Expression], language: str, rng: np.random.Generator
) -> Expression | None:
    """Draw a query from `pool` and put it in words that `out` does not have yet; None where that fails."""
    if not pool:
        return None
    for _ in range(8):
        query, targets = _draw(pool, rng)
        if query.plural and rng.integers(3) == 0 and len(targets) in NUMBERS:
            query = replace(query, number=len(targets))
        text = realise(query, language, rng)
        if all(item.text != text for item in out):
            return Expression(text, language, targets, query.category, query)
    return None
