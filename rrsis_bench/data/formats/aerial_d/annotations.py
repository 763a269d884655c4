"""Parse one annotation file of Aerial-D: the targets of a patch with their masks and expressions.

The values and their order are those of the example in the dataset's card. The stored text of that card had lost its XML
tags, so the names of the tags are inferred from its prose and from Pascal VOC, whose manner it follows::

    <annotation>
      <filename>L0_patch_0.png</filename>
      <size><width>480</width><height>480</height></size>
      <object>
        <name>building</name>
        <bndbox><xmin>0</xmin><ymin>0</ymin><xmax>43</xmax><ymax>21</ymax></bndbox>
        <id>1</id>
        <segmentation>{'size': [480, 480], 'counts': '...'}</segmentation>
        <area>494</area>
        <possible_colors>light,dark</possible_colors>
        <expressions>
          <expression type="original">the dark topmost building</expression>
          <expression type="enhanced">the darkest building at the very top</expression>
          <expression type="unique">the highest dark building on the upper left</expression>
        </expressions>
      </object>
      <groups>
        <group>
          <id>1000000</id>
          <instance_ids>1,2,3</instance_ids>
          <size>3</size>
          <centroid><x>44.0</x><y>240.0</y></centroid>
          <category>building</category>
          <segmentation>...</segmentation>
          <expressions>...</expressions>
        </group>
      </groups>
    </annotation>

The run lengths are the text of a Python dict. Only that literal is read; nothing is evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

KINDS = ("original", "enhanced", "unique")
"""Kinds of expressions: by rules, reworded by a language model, and written by it from what it sees."""

_LISTS = {"expressions": "original", "enhanced_expressions": "enhanced", "unique_expressions": "unique"}
"""Tags of lists of expressions -> the kind of those without a ``type``."""

_RLE = re.compile(r"\{'size': \[(\d{1,6}), (\d{1,6})\], 'counts': b?'([0-o]*)'\}")
"""The spelling of run lengths that ``repr`` gives; their characters are 0 to o, with the backslash doubled."""

_UNKNOWN_MASK = "<segmentation> is not a Python dict with 'size' [height, width] and compressed 'counts'"

_LONGEST = 1_000_000
"""Characters of a mask's text."""


@dataclass(frozen=True, slots=True)
class Target:
    """An object or a group of a patch.

    Attributes:
        ident: unique within the patch.
        group: whether it is a group.
        category: as the file spells it.
        members: objects that it denotes; None if the file does not say.
        size: height and width of the mask in pixels.
        counts: COCO's compressed run lengths, not yet checked.
        expressions: kind and text of each expression with words, in the order of the file.
    """

    ident: int
    group: bool
    category: str
    members: int | None
    size: tuple[int, int]
    counts: bytes
    expressions: tuple[tuple[str, str], ...]


def parse(content: bytes) -> tuple[str, list[Target]]:
    """Parse a file.

    Returns:
        The name of the image file, empty if the file gives none; and the targets that have expressions.

    Raises:
        ValueError: the content is not such a file; with the reason.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("it declares a document type or entities, which an annotation file does not need")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML ({error})") from None
    name = (root.findtext("filename") or "").strip()
    return name, [target for node in _nodes(root) if (target := _target(node)) is not None]


def _nodes(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for node in root:
        if node.tag in ("object", "group"):
            yield node
        elif node.tag in ("objects", "groups"):
            yield from (child for child in node if child.tag in ("object", "group"))


def _target(node: ElementTree.Element) -> Target | None:
    """Return an object or a group; None if nothing refers to it."""
    expressions = tuple(_expressions(node))
    if not expressions:
        return None
    group = node.tag == "group"
    ident, category = _text(node, "id"), _text(node, "category") or _text(node, "name")
    what = f"{node.tag} {ident or 'without id'}"
    if not re.fullmatch(r"\d{1,18}", ident):
        raise ValueError(f"{what}: <id> is '{ident[:20]}', expected a whole number")
    if not category:
        raise ValueError(f"{what} has neither <name> nor <category>")
    try:
        size, counts = mask_of(_text(node, "segmentation"))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    return Target(int(ident), group, category, _members(node) if group else 1, size, counts, expressions)


def _text(node: ElementTree.Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()


def _members(node: ElementTree.Element) -> int | None:
    listed = [part for part in _text(node, "instance_ids").split(",") if part.strip()]
    if listed:
        return len(listed)
    size = _text(node, "size")
    return int(size) if re.fullmatch(r"[1-9]\d{0,5}", size) else None


def _expressions(node: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for tag, kind in _LISTS.items():
        for listed in node.findall(tag):
            for entry in listed:
                text = " ".join((entry.text or "").split())
                if text:
                    yield entry.get("type", kind), text


def mask_of(text: str) -> tuple[tuple[int, int], bytes]:
    """Return size (height, width) and compressed counts of a mask's text, without checking what the counts mean.

    Raises:
        ValueError: it is no dict with ``size`` and compressed ``counts``; with the reason.
    """
    match = _RLE.fullmatch(text)
    if match is not None:
        return (int(match[1]), int(match[2])), match[3].replace("\\\\", "\\").encode("ascii")
    if not text:
        raise ValueError("no <segmentation>")
    try:
        value = ast.literal_eval(text) if len(text) <= _LONGEST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(_UNKNOWN_MASK)
    size, counts = value.get("size"), value.get("counts")
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
    if not (isinstance(size, list | tuple) and len(size) == 2 and isinstance(counts, bytes)):
        raise ValueError(_UNKNOWN_MASK)
    if not all(type(side) is int and 0 < side < 10**6 for side in size):
        raise ValueError(_UNKNOWN_MASK)
    return (size[0], size[1]), counts
