"""Words: realises a query as an English or Chinese referring expression, in the manner of RRSIS-D's sentences."""

from __future__ import annotations

import numpy as np

from rrsis_bench.synthetic.language.semantics import Query

NOUNS: dict[str, dict[str, str]] = {
    "airplane": {"en": "airplane", "zh": "飞机"},
    "baseballfield": {"en": "baseball field", "zh": "棒球场"},
    "basketballcourt": {"en": "basketball court", "zh": "篮球场"},
    "bridge": {"en": "bridge", "zh": "桥"},
    "chimney": {"en": "chimney", "zh": "烟囱"},
    "groundtrackfield": {"en": "ground track field", "zh": "田径场"},
    "ship": {"en": "ship", "zh": "船"},
    "stadium": {"en": "stadium", "zh": "体育场"},
    "storagetank": {"en": "storage tank", "zh": "储油罐"},
    "tenniscourt": {"en": "tennis court", "zh": "网球场"},
    "vehicle": {"en": "vehicle", "zh": "车辆"},
    "windmill": {"en": "windmill", "zh": "风车"},
}
_MEASURE_ZH = {"airplane": "架", "bridge": "座", "chimney": "座", "ship": "艘", "stadium": "座", "vehicle": "辆"}
_COLOURS_ZH = {
    "red": "红色",
    "blue": "蓝色",
    "white": "白色",
    "yellow": "黄色",
    "green": "绿色",
    "black": "黑色",
    "gray": "灰色",
    "orange": "橙色",
}
_PLACES_ZH = {
    "left": ("左侧", "左边"),
    "right": ("右侧", "右边"),
    "top": ("上方", "顶部"),
    "bottom": ("下方", "底部"),
    "middle": ("中间", "中央"),
    "top left": ("左上角", "左上方"),
    "top right": ("右上角", "右上方"),
    "bottom left": ("左下角", "左下方"),
    "bottom right": ("右下角", "右下方"),
}
_RELATIONS_ZH = {"left of": "左侧", "right of": "右侧", "above": "上方", "below": "下方"}
_SIDES_ZH = {"left": "左", "right": "右", "top": "上", "bottom": "下"}
# Most objects that an expression counts: people rarely give a larger number.
NUMBERS = {
    2: ("two", "两"),
    3: ("three", "三"),
    4: ("four", "四"),
    5: ("five", "五"),
    6: ("six", "六"),
    7: ("seven", "七"),
    8: ("eight", "八"),
}
_RANKS = {2: ("second", "二"), 3: ("third", "三"), 4: ("fourth", "四")}
_PLACES_EN: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "on the left of the image"),
    "right": ("on the right", "on the right side", "on the right of the image"),
    "top": ("on the top", "at the top", "at the top of the image"),
    "bottom": ("on the bottom", "at the bottom", "at the bottom of the image"),
    "middle": ("in the middle", "in the middle of the image", "in the center"),
    "top left": ("on the top left", "on the upper left", "in the upper left corner"),
    "top right": ("on the top right", "on the upper right", "in the upper right corner"),
    "bottom left": ("on the bottom left", "on the lower left", "in the lower left corner"),
    "bottom right": ("on the bottom right", "on the lower right", "in the lower right corner"),
}
_EXTREMES_EN = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
_RELATIONS_EN: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of the", "on the left of the"),
    "right of": ("to the right of the", "on the right of the"),
    "above": ("above the", "on the upper side of the"),
    "below": ("below the", "on the lower side of the"),
}


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _plural(noun: str) -> str:
    return noun + "s"


def realise(query: Query, language: str, rng: np.random.Generator) -> str:
    """Return the words of `query` in `language` ("en" or "zh"), one of several templates per kind."""
    return _english(query, rng) if language == "en" else _chinese(query, rng)


def _english(query: Query, rng: np.random.Generator) -> str:
    noun = NOUNS[query.category]["en"]
    if query.plural:
        noun = _plural(noun)
        article = f"the {NUMBERS[query.number][0]} " if query.number else _pick(rng, ("all the ", "all ", "the "))
    else:
        article = "the "
    if query.colour:
        noun = f"{query.colour} {noun}"
    if query.kind == "size":
        return f"{article}{query.size} {noun}"
    if query.kind == "extreme" and query.side:
        return f"{article}{_EXTREMES_EN[query.side]} {noun}"
    if query.kind == "ordinal" and query.side and query.rank:
        return f"{article}{_RANKS[query.rank][0]} {noun} from the {query.side}"
    if query.relation and query.anchor:
        return f"{article}{noun} {_pick(rng, _RELATIONS_EN[query.relation])} {NOUNS[query.anchor]['en']}"
    if query.place:
        return f"{article}{noun} {_pick(rng, _PLACES_EN[query.place])}"
    return f"{article}{noun}" if query.plural or query.colour else _pick(rng, (f"the {noun}", f"a {noun}"))


def _chinese(query: Query, rng: np.random.Generator) -> str:
    noun = NOUNS[query.category]["zh"]
    measure = _MEASURE_ZH.get(query.category, "个")
    if query.colour:
        noun = _COLOURS_ZH[query.colour] + noun
    if query.plural:
        noun = f"{NUMBERS[query.number][1]}{measure}{noun}" if query.number else f"所有{noun}"
    if query.kind == "size":
        return ("最大的" if query.size == "largest" else "最小的") + noun
    if query.kind == "extreme" and query.side:
        return f"最{_SIDES_ZH[query.side]}{_pick(rng, ('侧', '边'))}的{noun}"
    if query.kind == "ordinal" and query.side and query.rank:
        return f"从{_SIDES_ZH[query.side]}边数第{_RANKS[query.rank][1]}{measure}{noun}"
    if query.relation and query.anchor:
        return f"{NOUNS[query.anchor]['zh']}{_RELATIONS_ZH[query.relation]}的{noun}"
    if query.place:
        return f"{_pick(rng, ('', '图像'))}{_pick(rng, _PLACES_ZH[query.place])}的{noun}"
    return noun
