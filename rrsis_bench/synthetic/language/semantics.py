"""What an expression means: predicates over a scene's objects, with margins.

Each predicate answers YES, NO or UNSURE; UNSURE is the band in which two readers might disagree. An expression is used
only when no object is UNSURE, so it denotes exactly the objects that answer YES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

YES, NO, UNSURE = "yes", "no", "unsure"

PLACES: tuple[str, ...] = (
    "left",
    "right",
    "top",
    "bottom",
    "middle",
    "top left",
    "top right",
    "bottom left",
    "bottom right",
)
SIDES: tuple[str, ...] = ("left", "right", "top", "bottom")
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")

# Colours that two readers may call by each other's name in a hazy image.
CLOSE_COLOURS: frozenset[frozenset[str]] = frozenset(
    frozenset(pair) for pair in (("white", "gray"), ("gray", "black"), ("red", "orange"), ("orange", "yellow"))
)


@dataclass(frozen=True)
class SceneObject:
    """One object that expressions may denote.

    Attributes:
        category: RRSIS-D's name, such as ``"tenniscourt"``.
        colour: the colour's name, None where the category is not told apart by colour.
        size_class: ``"small"``, ``"medium"`` or ``"large"``: below 1%, below 4% of the image, above.
        mask_HW: bool (H, W), the object's visible pixels.
        box: x1, y1, x2, y2 in pixels; the last column and row are x2 - 1 and y2 - 1.
    """

    category: str
    colour: str | None
    size_class: str
    mask_HW: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Visible pixels."""
        return int(np.count_nonzero(self.mask_HW))

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box as shares of the image's width and height."""
        height, width = self.mask_HW.shape
        return (self.box[0] + self.box[2]) / 2 / width, (self.box[1] + self.box[3]) / 2 / height


@dataclass(frozen=True)
class Query:
    """The meaning of an expression; the attributes that are not None must all hold.

    Attributes:
        kind: ``category``, ``colour``, ``position``, ``colour_position``, ``size``, ``extreme``, ``relation`` or
            ``ordinal``.
        category: the noun.
        colour: the colour of the objects meant.
        place: absolute position, one of PLACES.
        size: ``"largest"`` or ``"smallest"`` of the category.
        side: for ``extreme`` the outermost object of the category on that side; for ``ordinal`` where counting starts.
        rank: for ``ordinal``, 2 for the second.
        relation: one of RELATIONS, seen from the only object of category `anchor`.
        anchor: the category of the object that the relation starts from.
        plural: the expression denotes all objects that match.
        number: the expression says how many they are.
    """

    kind: str
    category: str
    colour: str | None = None
    place: str | None = None
    size: str | None = None
    side: str | None = None
    rank: int | None = None
    relation: str | None = None
    anchor: str | None = None
    plural: bool = False
    number: int | None = None


def _band(value: float, yes_below: float, no_above: float) -> str:
    """YES below the first bound, NO above the second, UNSURE between them."""
    return YES if value <= yes_below else NO if value >= no_above else UNSURE


def _all(*verdicts: str) -> str:
    """Conjunction: NO wins over UNSURE, UNSURE over YES."""
    return NO if NO in verdicts else UNSURE if UNSURE in verdicts else YES


def at_place(centre: tuple[float, float], place: str) -> str:
    """Judge an absolute position from the centre of an object's box."""
    x, y = centre
    if place == "middle":
        return _band(max(abs(x - 0.5), abs(y - 0.5)), 0.13, 0.22)
    far = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}
    parts = place.split(" ")
    if len(parts) == 1:
        return _band(far[place], 0.37, 0.50)
    return _all(*(_band(far[part], 0.40, 0.52) for part in parts))


def in_relation(centre: tuple[float, float], anchor: tuple[float, float], relation: str) -> str:
    """Judge a relation: YES inside a cone of 45 degrees to either side, NO outside one of 63 degrees or behind."""
    dx, dy = centre[0] - anchor[0], centre[1] - anchor[1]
    along, across = {
        "left of": (-dx, dy),
        "right of": (dx, dy),
        "above": (-dy, dx),
        "below": (dy, dx),
    }[relation]
    if along >= 0.12 and abs(across) <= along:
        return YES
    return NO if along <= 0.02 or abs(across) >= 2 * along else UNSURE


def _by_size(objects: Sequence[SceneObject], size: str) -> list[str]:
    """The largest must have 1.35 times the pixels of the next one; the smallest alike."""
    areas = [item.area for item in objects]
    order = sorted(range(len(areas)), key=lambda index: areas[index], reverse=size == "largest")
    if len(order) < 2:
        return [UNSURE] * len(objects)
    first, second = areas[order[0]], areas[order[1]]
    clear = first >= 1.35 * second if size == "largest" else second >= 1.35 * first
    return [(YES if index == order[0] else NO) if clear else UNSURE for index in range(len(objects))]


def _along(item: SceneObject, side: str) -> float:
    """Distance of an object's centre from a side of the image."""
    x, y = item.centre
    return {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side]


def _by_rank(objects: Sequence[SceneObject], side: str, rank: int) -> list[str]:
    """Count from a side; every neighbouring pair up to the rank and behind it must be 0.07 apart."""
    if len(objects) < max(2, rank):
        return [UNSURE] * len(objects)
    order = sorted(range(len(objects)), key=lambda index: _along(objects[index], side))
    steps = [_along(objects[order[k + 1]], side) - _along(objects[order[k]], side) for k in range(len(order) - 1)]
    if any(step < 0.07 for step in steps[:rank]):
        return [UNSURE] * len(objects)
    return [YES if index == order[rank - 1] else NO for index in range(len(objects))]


def verdicts(query: Query, objects: Sequence[SceneObject]) -> list[str]:
    """Return YES, NO or UNSURE for each object."""
    out = [YES if item.category == query.category else NO for item in objects]
    peers = [index for index, verdict in enumerate(out) if verdict == YES]

    def narrow(judge: Callable[[SceneObject], str]) -> None:
        for index in peers:
            out[index] = _all(out[index], judge(objects[index]))

    def replace(judged: list[str]) -> None:
        for index, verdict in zip(peers, judged, strict=True):
            out[index] = _all(out[index], verdict)

    if query.colour is not None:
        colour = query.colour
        narrow(lambda item: _same_colour(item.colour, colour))
    if query.place is not None:
        place = query.place
        narrow(lambda item: at_place(item.centre, place))
    if query.size is not None:
        replace(_by_size([objects[index] for index in peers], query.size))
    if query.kind == "extreme" and query.side is not None:
        replace(_by_rank([objects[index] for index in peers], query.side, 1))
    if query.kind == "ordinal" and query.side is not None and query.rank is not None:
        replace(_by_rank([objects[index] for index in peers], query.side, query.rank))
    if query.relation is not None:
        relation = query.relation
        anchors = [item for item in objects if item.category == query.anchor]
        if len(anchors) != 1:
            return [UNSURE] * len(objects)
        narrow(lambda item: in_relation(item.centre, anchors[0].centre, relation))
    return out


def _same_colour(have: str | None, want: str) -> str:
    if have == want:
        return YES
    if have is None or frozenset((have, want)) in CLOSE_COLOURS:
        return UNSURE
    return NO


def denotes(query: Query, objects: Sequence[SceneObject]) -> tuple[int, ...] | None:
    """Return the indices of the objects that `query` denotes, or None where readers might disagree.

    A singular query that several objects satisfy, or a number that is not theirs, has no denotation either.
    """
    judged = verdicts(query, objects)
    if UNSURE in judged:
        return None
    chosen = tuple(index for index, verdict in enumerate(judged) if verdict == YES)
    if not query.plural and len(chosen) > 1:
        return None
    if query.plural and len(chosen) == 1:
        return None
    if query.number is not None and chosen and len(chosen) != query.number:
        return None
    return chosen
