"""Synthetic scenes under test: an independent reader of their expressions, and a hash that freezes them."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from rrsis_bench.synthetic import Scene, SceneSpec, render_scene
from rrsis_bench.synthetic.language.realise import NOUNS

PLACE_WORDS = {"upper": "top", "lower": "bottom", "center": "middle"}
RELATION_WORDS = {
    "to the left of the": "left",
    "on the left of the": "left",
    "to the right of the": "right",
    "on the right of the": "right",
    "above the": "top",
    "on the upper side of the": "top",
    "below the": "bottom",
    "on the lower side of the": "bottom",
}
NOUN_OF = {words["en"]: category for category, words in NOUNS.items()}


def understand(text: str, scene: Scene) -> list[int]:
    """Answer an English expression from its words alone, in the plainest way and without margins."""
    size = scene.shape[0]
    centres = []
    for item in scene.objects:
        rows, columns = np.nonzero(item.mask_HW)
        centres.append(((columns.min() + columns.max() + 1) / 2 / size, (rows.min() + rows.max() + 1) / 2 / size))

    relation = next((words for words in RELATION_WORDS if re.search(f" {words} (?!image)", text)), None)
    main, _, anchor = text.partition(f" {relation} ") if relation else (text, "", "")
    noun = next(name for name in NOUN_OF if re.search(rf"\b{name}s?\b", main))
    chosen = [k for k, item in enumerate(scene.objects) if item.category == NOUN_OF[noun]]
    area = [int(item.mask_HW.sum()) for item in scene.objects]
    distance = {
        "left": lambda k: centres[k][0],
        "right": lambda k: 1 - centres[k][0],
        "top": lambda k: centres[k][1],
        "bottom": lambda k: 1 - centres[k][1],
    }
    before, _, after = main.partition(noun)
    for colour in ("red", "blue", "white", "yellow", "green", "black", "gray"):
        if colour in before.split():
            chosen = [k for k in chosen if scene.objects[k].colour == colour]
    if "largest" in before:
        return [max(chosen, key=lambda k: area[k])]
    if "smallest" in before:
        return [min(chosen, key=lambda k: area[k])]
    for side in distance:
        if f"{side}most" in before:
            return [min(chosen, key=distance[side])]
    for rank, word in enumerate(("second", "third"), start=1):
        if word in before:
            return [sorted(chosen, key=distance[after.split()[-1]])[rank]]
    if relation:
        (start,) = [k for k, item in enumerate(scene.objects) if item.category == NOUN_OF[anchor]]
        out = []
        for k in chosen:
            dx, dy = centres[k][0] - centres[start][0], centres[k][1] - centres[start][1]
            way = RELATION_WORDS[relation]
            along = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}[way]
            across = abs(dy) if way in ("left", "right") else abs(dx)
            if along > 0.07 and across < 1.5 * along:
                out.append(k)
        return out
    words = [PLACE_WORDS.get(word, word) for word in after.split()]
    if "middle" in words:
        return [k for k in chosen if max(abs(c - 0.5) for c in centres[k]) < 0.175]
    sides = [side for side in distance if side in words]
    limit = 0.5 if len(sides) < 2 else 0.46
    return [k for k in chosen if all(distance[side](k) < limit for side in sides)]


def scenes_hash(spec: SceneSpec, counts: dict[str, int]) -> str:
    """Hash pictures (before JPEG), masks and expressions of the first scenes of each split."""
    digest = hashlib.sha256()
    for split, count in counts.items():
        for index in range(count):
            scene = render_scene(spec, split, index)
            digest.update(scene.image_HW3.tobytes())
            for item in scene.objects:
                digest.update(f"{item.category} {item.colour} {item.box}".encode())
                digest.update(np.packbits(item.mask_HW).tobytes())
            for e in scene.expressions:
                digest.update(f"{e.text} {e.targets} {e.category}".encode())
    return digest.hexdigest()
