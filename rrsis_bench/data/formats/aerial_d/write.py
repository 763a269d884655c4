"""Write synthetic scenes in Aerial-D's format."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from rrsis_bench.data.formats.aerial_d.dataset import AVAILABLE, NO_TEST
from rrsis_bench.data.formats.scenes import SceneSample, encode_image
from rrsis_bench.errors import UserError

_GROUP = 1001
"""The first id of a group of objects, as in the dataset's card."""

_WORDINGS = {"original": "{}", "enhanced": "{} in this image", "unique": "{}, as seen from above"}
"""Kind of expression -> how it words a scene's expression. A synthetic copy has no language model's words."""


def encode(image_HW3: np.ndarray) -> bytes:
    """Encode an image as the format's files do."""
    return encode_image(image_HW3, "PNG")


def write(samples: Iterable[SceneSample], root: Path) -> None:
    """Write Aerial-D's files below `root`: one patch per scene, and three expressions per expression of the scene.

    Raises:
        UserError: scenes of a test split, or an expression that denotes nothing: the format has neither.
    """
    for split in AVAILABLE:
        for name in ("annotations", "images"):
            (root / split / name).mkdir(parents=True)
    for (split, scene), members in groupby(samples, key=lambda sample: (sample.split, sample.scene)):
        if split not in AVAILABLE:
            raise UserError(f"{NO_TEST} Ask for no test scenes.")
        found = list(members)
        stem = f"P{('train', 'val').index(split)}{scene:06d}_patch_0"
        (root / split / "images" / f"{stem}.png").write_bytes(found[0].image)
        tree = ElementTree.ElementTree(_annotation(f"{stem}.png", found))
        ElementTree.indent(tree)
        tree.write(root / split / "annotations" / f"{stem}.xml", encoding="utf-8", xml_declaration=True)


def _annotation(name: str, samples: list[SceneSample]) -> ElementTree.Element:
    node = ElementTree.Element("annotation")
    _put(node, "filename", name)
    _sides(node, samples[0].size)
    targets: dict[tuple[int, ...], list[SceneSample]] = {}
    for sample in samples:
        if not sample.objects:
            raise UserError(f"Aerial-D has no expression without a target, such as '{sample.text}'. Set no_target=0.")
        targets.setdefault(tuple(sorted(number for number, _, _ in sample.objects)), []).append(sample)
    groups = [numbers for numbers in targets if len(numbers) > 1]
    for numbers, members in targets.items():
        if len(numbers) == 1:
            item = ElementTree.SubElement(node, "object")
            _put(item, "name", members[0].category)
            box = ElementTree.SubElement(item, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), members[0].box, strict=True):
                _put(box, tag, value)
            _put(item, "id", numbers[0] + 1)
            _target(item, members)
    listed = ElementTree.SubElement(node, "groups") if groups else node
    for place, numbers in enumerate(groups):
        members = targets[numbers]
        item = ElementTree.SubElement(listed, "group")
        _put(item, "id", _GROUP + place)
        _put(item, "instance_ids", ",".join(str(number + 1) for number in numbers))
        _put(item, "size", len(numbers))
        left, top, right, bottom = members[0].box
        centroid = ElementTree.SubElement(item, "centroid")
        _put(centroid, "x", (left + right) / 2)
        _put(centroid, "y", (top + bottom) / 2)
        _put(item, "category", members[0].category)
        _target(item, members)
    return node


def _target(node: ElementTree.Element, members: list[SceneSample]) -> None:
    height, width = members[0].size
    _put(node, "segmentation", repr({"size": [height, width], "counts": members[0].rle}))
    _put(node, "area", members[0].area)
    expressions = ElementTree.SubElement(node, "expressions")
    for kind, wording in _WORDINGS.items():
        for sample in members:
            ElementTree.SubElement(expressions, "expression", type=kind).text = wording.format(sample.text)


def _sides(node: ElementTree.Element, size: tuple[int, int]) -> None:
    sides = ElementTree.SubElement(node, "size")
    _put(sides, "width", size[1])
    _put(sides, "height", size[0])


def _put(node: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(node, tag).text = str(value)
