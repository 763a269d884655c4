"""Which training data may show the images of a test set: notes on a row, from names of datasets and image sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from rrsis_bench.config.cards import data_config, dataset_names

SOURCES: dict[str, tuple[str, ...]] = {
    "DIOR": ("Google Earth",),
    "DOTA": ("Google Earth",),
    "iSAID": ("DOTA",),
    "VRSBench": ("DOTA", "DIOR"),
    "SAMRS": ("DIOR", "DOTA"),
    "LoveDA": (),
    "aerial_d": ("iSAID", "LoveDA"),
    "RemoteSAM-270K": ("rrsisd", "risbench"),  # issue 81 of Awesome-RS-VL-Data
    "Google Earth": (),
}
"""Collections of images that are not in ``conf/data`` -> what their images were taken from."""

PLACES = "Google Earth"
"""A source so large that it only says that places may recur, not that images do."""


@cache
def image_sources() -> dict[str, tuple[str, ...]]:
    """Return every known name, those of ``conf/data`` included -> what its images were taken from."""
    cards = {name: data_config(name).card for name in dataset_names()}
    found = {name: () if card is None else card.image_sources for name, card in cards.items()}
    return SOURCES | {name: sources for name, sources in found.items() if sources or name not in SOURCES}


def leakage_notes(
    trained_on: Iterable[str], data: str, known: Mapping[str, tuple[str, ...]] | None = None
) -> list[str]:
    """Return one note per training set that may show the images of the scored dataset.

    Training on the scored dataset itself is no leakage, unless the entry names a held-out split (``rrsisd:test``,
    ``rrsisd:all``).

    Args:
        trained_on: names of datasets and image sources, in any letter case, each perhaps with ``:split``.
        data: the scored dataset.
        known: from `image_sources`; None: this suite's.
    """
    entries = list(dict.fromkeys(trained_on))
    if not entries:
        return []
    known = image_sources() if known is None else known
    own = _origins(data, known)
    notes = []
    for entry in entries:
        given, _, split = entry.partition(":")
        name = _name(given, known)
        if name is None:
            notes.append(f"leakage unknown: trained on {entry}, whose images are not known")
            continue
        origins = _origins(name, known)
        shared = sorted((origins & own) - {PLACES})
        if name == data:
            if split not in ("", "train"):
                notes.append(f"leakage: trained on {entry}, the scored dataset's held-out samples")
        elif data in origins:
            notes.append(f"leakage: trained on {entry}, which contains {data}")
        elif shared:
            words = " and ".join(shared)
            notes.append(f"leakage: trained on {entry}, which shares images of {words} with {data}")
        elif PLACES in origins & own:
            notes.append(f"possible leakage: trained on {entry}, images of {PLACES} like {data}: places may recur")
    return notes


def _name(given: str, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the known name that is meant, whatever its case, hyphens and spaces; None if there is none."""
    plain = {_plain(name): name for name in known}
    return plain.get(_plain(given))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _origins(name: str, known: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return a name and everything that its images come from."""
    found: set[str] = set()
    todo = [name]
    while todo:
        entry = todo.pop()
        if entry not in found:
            found.add(entry)
            todo += known.get(entry, ())
    return found
