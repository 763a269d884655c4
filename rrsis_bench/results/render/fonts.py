"""Fonts for Chinese text in charts. Matplotlib's own font would draw an empty box for each character.

A font of the system draws the characters that matplotlib's font lacks. If none is installed, the characters are written
as their number, such as ``U+8239``, and one line says so. Pages and terminals have fonts of their own.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rrsis_bench.console import Terminal
from rrsis_bench.printing import printable

OWN = "DejaVu Sans"  # comes with matplotlib: figures without Chinese are the same bytes everywhere
FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Source Han Sans SC",
    "Source Han Sans CN", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Heiti SC", "Heiti TC", "STHeiti", "Hiragino Sans GB", "Arial Unicode MS", "Droid Sans Fallback",
    "Noto Serif CJK SC", "Noto Serif CJK JP", "Songti SC", "SimSun", "AR PL UMing CN", "AR PL UKai CN",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lettering:
    """How to draw some texts.

    Attributes:
        families: for matplotlib's ``font.family``: each character is drawn with the first that has it.
        absent: characters that none of them has.
    """

    families: tuple[str, ...]
    absent: frozenset[str]

    def __call__(self, text: str) -> str:
        """`text` with what cannot be drawn as ``U+`` and its number, so that nothing is an empty box.

        Control characters get a visible sign: an SVG with them is not read.
        """
        text = printable(text)
        if not self.absent.intersection(text):
            return text
        drawn = "".join(f" U+{ord(char):04X} " if char in self.absent else char for char in text)
        return re.sub(" +", " ", drawn).strip()


def lettering(texts: Iterable[str], console: Terminal | None = None) -> Lettering:
    """Choose fonts for `texts`.

    Args:
        texts: all names in a chart that come from records or datasets.
        console: for the line that says what is missing; None: standard error.
    """
    wanted = {char for text in texts for char in text if not _is_control(char)}
    missing = wanted - _characters(_path(OWN))
    if not missing:
        return Lettering((OWN,), frozenset())
    best, covered = None, frozenset[str]()
    for family in FAMILIES:
        path = _path(family)
        found = frozenset(missing & _characters(path)) if path else frozenset[str]()
        if len(found) > len(covered):
            best, covered = family, found
        if len(covered) == len(missing):
            break
    absent = frozenset(missing - covered)
    if absent:
        shown = "".join(sorted(absent)[:12])
        (console or Terminal(stderr=True)).print(
            f"No font on this machine has the characters {shown}: the figure writes them as U+ and a number. "
            "Install a Chinese font (Debian: fonts-noto-cjk) and draw it again.",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )
    if best is None:
        return Lettering((OWN,), absent)
    # A line per figure when a family's only weight is not called "normal": nothing a reader could act on.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    return Lettering((OWN, best), absent)


def _is_control(char: str) -> bool:
    return unicodedata.category(char).startswith("C")


@cache
def _path(family: str) -> str | None:
    """The file of an installed font family, regular weight; None if it is not installed."""
    from matplotlib import font_manager

    known = font_manager.fontManager.ttflist
    if family not in {entry.name for entry in known}:
        _notice_new_fonts()
    fitting = [entry for entry in known if entry.name == family and entry.style == "normal"]
    fitting = [entry for entry in fitting if Path(entry.fname).is_file()]
    # A family's weights have the same characters; a variable font has no number for its weight.
    return (
        min(fitting, key=lambda entry: (entry.weight not in (400, "normal", "regular"), entry.fname)).fname
        if fitting
        else None
    )


@cache
def _notice_new_fonts() -> None:
    """Tell matplotlib of fonts of `FAMILIES` that were installed after it wrote its list; once in a process."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path in known:
            continue
        try:
            if FT2Font(path).family_name in FAMILIES:
                font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError):
            continue  # no font that matplotlib can read


@cache
def _characters(path: str | None) -> frozenset[str]:
    """The characters of a font file."""
    from matplotlib.ft2font import FT2Font

    return frozenset() if path is None else frozenset(map(chr, FT2Font(path).get_charmap()))
