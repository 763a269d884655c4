"""Exchange of Chinese side words; see `rrsis_bench.data.text.exchange`.

A side character counts as a side only with one of the endings of `_TERM`. "桥上的车" (on the bridge), "左右" (about)
and "东西" (thing) have none and are refused.
"""

from __future__ import annotations

import re

from rrsis_bench.data.text.turned import Exchanged, Unclear

_END = "侧边方面部角端缘沿半"
_TERM = re.compile(
    f"(?P<most>最)?(?:(?P<pair>[左右][上下]|[东西][南北])(?P<pair_end>[{_END}])?"
    f"|(?P<side>[左右上下东西南北])(?P<end>[{_END}])|(?P<edge>[顶底])(?P<edge_end>[部端边侧])"
    "|(?<=从)(?P<start>[左右上下东西南北])(?=[往向到至数起]))"
)
_WHAT = {"mirror": "左右东西", "upside": "上下顶底南北", "quarter": "左右上下顶底东西南北"}
_PHYSICAL = ("底下", "地下", "水下", "以上", "以下", "屋顶", "房顶", "楼顶", "塔顶", "车顶", "前", "后面", "后方")
_HANDED = ("顺时针", "逆时针")
_IMAGE_BEFORE = re.compile("(?:^|图像|图片|影像|画面|图中|图|最|[，,。、\\s])$")
_MAPS = {
    "mirror": str.maketrans("左右东西", "右左西东"),
    "upside": str.maketrans("上下顶底南北", "下上底顶北南"),
    "quarter": str.maketrans("左右上下东西南北", "下上左右北南东西"),
}
ORDINAL_ZH = re.compile("第[一二三四五六七八九十]|最后一")
_COUNTED = re.compile(f"从[左右上下东西南北][{_END}]?[往向到至数起]|[左右上下][{_END}]?数第|[从由自].{{0,4}}数")


def exchange_chinese(expression: str, turn: str) -> Exchanged:
    """Return what a Chinese expression has to say about the turned image; as `exchange`.

    Raises:
        Unclear: a character of the expression may mean a side or something else.
    """
    for word in _HANDED:
        if word in expression:
            raise Unclear(word)
    ordinal = ORDINAL_ZH.search(expression)
    if ordinal and not _COUNTED.search(expression):
        raise Unclear(ordinal[0])
    if turn != "mirror":
        for word in _PHYSICAL:
            if word in expression:
                raise Unclear(word)
    if turn == "quarter" and (line := re.search("[行列排竖横]", expression)):
        raise Unclear(line[0])
    wanted, count, last, out = _WHAT[turn], 0, 0, []
    for match in _TERM.finditer(expression):
        _require_none(expression[last : match.start()], wanted)
        surface = turn != "mirror" and match[0] in ("上面", "下面")
        if surface and not _IMAGE_BEFORE.search(expression[: match.start()]):  # "桥上面": on the bridge
            raise Unclear(match[0])
        new = _turned(match, turn)
        out += [expression[last : match.start()], new]
        count += new != match[0]
        last = match.end()
    _require_none(expression[last:], wanted)
    return Exchanged("".join([*out, expression[last:]]), count)


def _require_none(text: str, characters: str) -> None:
    found = re.search(f".?[{characters}].?", text)
    if found:
        raise Unclear(found[0])


def _turned(match: re.Match[str], turn: str) -> str:
    most, table = match["most"] or "", _MAPS[turn]
    if match["pair"]:
        new = match["pair"].translate(table)
        if turn == "quarter":  # the horizontal part, or east and west, stays in front
            new = new[::-1]
        return most + new + (match["pair_end"] or "")
    if match["edge"]:
        if turn == "quarter":
            return most + ("左侧" if match["edge"] == "顶" else "右侧")
        return most + match["edge"].translate(table) + match["edge_end"]
    if match["start"]:
        return most + match["start"].translate(table)
    return most + match["side"].translate(table) + match["end"]
