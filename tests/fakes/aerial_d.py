"""Writes copies in Aerial-D's layout: annotation files with objects and groups, and empty images."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

import numpy as np

from rrsis_bench.data.pixels import rle as masks
from tests.fakes.large import ellipses, texts

SIDE = 480
CATEGORIES = ("building", "water", "small_vehicle", "ship", "plane")
OTHER = 8


def counts_of(n: int = 12) -> list[str]:
    """Run lengths of the masks, as text; each is of another object."""
    return [masks.encode(mask_HW)["counts"].decode() for mask_HW in ellipses(n, SIDE)]


def rle_text(counts: str) -> str:
    """The text of a mask: a Python dict, with XML's own characters escaped."""
    return escape(repr({"size": [SIDE, SIDE], "counts": counts}), quote=False)


def element(tag: str, ident: int, category: str, counts: str, expressions: list[tuple[str, str]]) -> str:
    """An object or a group of three."""
    listed = "".join(f'      <expression type="{kind}">{text}</expression>\n' for kind, text in expressions)
    named = f"<name>{category}</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    if tag == "group":
        named = f"<instance_ids>1,2,3</instance_ids><size>3</size><category>{category}</category>"
    return (
        f"  <{tag}>\n    <id>{ident}</id>{named}\n"
        f"    <segmentation>{rle_text(counts)}</segmentation>\n"
        f"    <area>494</area><possible_colors>light,dark</possible_colors>\n"
        f"    <expressions>\n{listed}    </expressions>\n  </{tag}>\n"
    )


def annotation(stem: str, objects: list[str], groups: list[str]) -> str:
    """A file."""
    return (
        f"<?xml version='1.0' encoding='utf-8'?>\n<annotation>\n  <filename>{stem}.png</filename>\n"
        f"  <size><width>{SIDE}</width><height>{SIDE}</height></size>\n{''.join(objects)}"
        f"  <groups>\n{''.join(groups)}  </groups>\n</annotation>\n"
    )


def write_large(root: Path, patches: dict[str, int], expressions: dict[str, int]) -> None:
    """Write so many patches and expressions per split: two of each kind per target, half of the targets groups."""
    counts, words = counts_of(40)[1:], texts(997)
    for split, n in patches.items():
        for name in ("annotations", "images"):
            (root / split / name).mkdir(parents=True)
        written = 0
        for patch in range(n):
            stem = f"{'PL'[patch % 2]}{'0' if split == 'train' else '1'}{patch:05d}_patch_{patch % 50}"
            goal, targets = expressions[split] * (patch + 1) // n, []
            while written < goal:
                take = min(6, goal - written)
                kinds = ["original", "enhanced", "unique", "original", "enhanced", "unique"][:take]
                said = [(kind, words[(written + place) % len(words)]) for place, kind in enumerate(kinds)]
                group = len(targets) % 2 == 1
                ident = (1_000_000 if group else 1) + len(targets)
                category = CATEGORIES[written % len(CATEGORIES)]
                text = element("group" if group else "object", ident, category, counts[written % len(counts)], said)
                targets.append((group, text))
                written += take
            content = annotation(
                stem, [text for group, text in targets if not group], [text for group, text in targets if group]
            )
            (root / split / "annotations" / f"{stem}.xml").write_text(content)
            os.close(os.open(root / split / "images" / f"{stem}.png", os.O_CREAT | os.O_WRONLY))


def mask_of_counts(counts: str) -> np.ndarray:
    """Decode run lengths, bool (SIDE, SIDE)."""
    return masks.decode({"size": [SIDE, SIDE], "counts": counts.encode()})
