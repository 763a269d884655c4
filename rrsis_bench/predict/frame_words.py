"""Find words whose meaning depends on the frame: in tile mode, every tile has a "ship on the left"."""

from __future__ import annotations

import re

_KINDS = {
    "position": (
        r"left|right|top|bottom|upper|lower|middle|cent(?:er|re)|central|corner|edge|border|side|half|"
        r"north(?:ern|east|west)?|south(?:ern|east|west)?|eastern|western|east|west|"
        r"(?:left|right|top|bottom|upper|lower)most",
        r"左|右|上方|下方|上部|下部|顶部|底部|中间|中央|中心|角落|边缘|北|南|东|西",
    ),
    "order": (
        r"first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|next|\d+(?:st|nd|rd|th)",
        r"第[一二三四五六七八九十\d]+|最后",
    ),
    "superlative": (
        r"biggest|smallest|largest|longest|shortest|nearest|closest|farthest|furthest|widest|narrowest|brightest|"
        r"darkest|highest|lowest|most|only",
        r"最[大小长短近远宽窄亮暗高低多少]|唯一",
    ),
    "relation": (
        r"near|beside|besides|between|behind|above|below|under|underneath|beneath|over|along|alongside|around|across|"
        r"next to|close to|adjacent|parallel|opposite|inside|outside|among|in front of|surrounded|bigger|smaller|"
        r"larger|than",
        r"旁边|附近|之间|后面|前面|对面|周围|沿着|相邻|紧邻|平行|靠近|比",
    ),
}
_PATTERNS = {
    kind: re.compile(rf"\b(?:{english})\b|{chinese}", re.IGNORECASE) for kind, (english, chinese) in _KINDS.items()
}


def frame_words(expression: str) -> dict[str, list[str]]:
    """Return the words of position, order, superlative and relation in an English or Chinese expression, by kind.

    Kinds without a word are left out.
    """
    found = {
        kind: list(dict.fromkeys(match.lower() for match in pattern.findall(expression)))
        for kind, pattern in _PATTERNS.items()
    }
    return {kind: words for kind, words in found.items() if words}
