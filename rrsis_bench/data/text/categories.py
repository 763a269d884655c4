"""Names of categories and what sentences call them, one table per dataset, and the parser that reads them.

`table_of` gives the table of a dataset to the category parser and to FIANet's phrase finder. The parser is for datasets
whose files name no category (RefSegRS, RISBench). Its rule, the same for every dataset:

- a category's name or one of its aliases is found as whole words, in any letter case, its words apart by spaces,
  hyphens or underscores ("small-vehicle"), the last one also as a plural;
- of the names that begin at the same place the longest counts: "road marking" is no road;
- of all places the first one counts: "the ship beside the bridge" is a ship.

An expression that names none has no category (None) and is counted in the tables' row for unmatched ones. Such
categories are called text-derived wherever they are shown: the first thing named is mostly, but not always, what the
mask shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from rrsis_bench.data.text.lexicon import spelt_out

RRSISD: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "Expressway-Service-area": ("service area",),
    "Expressway-toll-station": ("toll station",),
    "airplane": ("plane", "aircraft", "aeroplane"),
    "airport": (),
    "baseballfield": ("baseball diamond",),
    "basketballcourt": (),
    "bridge": (),
    "chimney": (),
    "dam": (),
    "golffield": ("golf course",),
    "groundtrackfield": ("track field",),
    "harbor": ("harbour",),
    "overpass": (),
    "ship": (),
    "stadium": (),
    "storagetank": ("oil tank",),
    "tenniscourt": (),
    "trainstation": ("railway station",),
    "vehicle": (),
    "windmill": (),
})  # fmt: skip
"""RRSIS-D: its twenty names as its instances.json spells them, in the order of their ids.

Its sentences use these names alone, written apart ("baseball field"). The aliases are plain English.
"""

REFSEGRS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "road": (),
    "vehicle": (),
    "car": (),
    "van": (),
    "building": (),
    "truck": (),
    "trailer": (),
    "bus": (),
    "road marking": ("roadmarking",),
    "bikeway": ("bike way",),
    "sidewalk": ("side walk",),
    "tree": (),
    "low vegetation": (),
    "impervious surface": (),
})  # fmt: skip
"""RefSegRS: the fourteen names of FIANet (its Table II), in that order, each with its aliases.

A car, a van, a truck, a trailer and a bus are categories of their own beside "vehicle".
"""

RISBENCH: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "expressway service area": ("service area",),
    "expressway toll station": ("toll station", "toll booth", "toll plaza", "toll gate"),
    "ground track field": ("track field", "running track", "athletic track", "athletics track", "track and field"),
    "basketball court": (),
    "container crane": ("crane",),
    "roundabout": ("traffic circle",),
    "windmill": ("wind mill", "wind turbine"),
    "overpass": ("over pass", "flyover"),
    "stadium": ("stadia",),
    "bridge": (),
    "soccer ball field": ("soccer field", "soccer pitch", "football field", "football pitch"),
    "baseball diamond": ("baseball field",),
    "train station": ("railway station", "rail station"),
    "golf field": ("golf course", "golfcourse"),
    "airport": (),
    "harbor": ("harbour",),
    "dam": (),
    "ship": ("boat", "vessel", "yacht"),
    "helipad": ("helicopter pad", "helicopter landing pad", "heliport"),
    "vehicle": ("small vehicle", "large vehicle", "car", "truck", "lorry", "bus", "van"),
    "chimney": ("smokestack",),
    "airplane": ("plane", "aircraft", "aeroplane", "air plane"),
    "helicopter": (),
    "tennis court": (),
    "storage tank": ("tank", "oil tank"),
    "swimming pool": ("pool",),
})  # fmt: skip
"""RISBench: its 26 names, each with the other words that its sentences (or plain English) have for it."""


CHINESE_NAMES: Mapping[str, str] = MappingProxyType({
    "airplane": "飞机", "airport": "机场", "baseball field": "棒球场", "baseball diamond": "棒球场",
    "basketball court": "篮球场", "bridge": "桥", "chimney": "烟囱", "dam": "大坝",
    "expressway service area": "高速服务区",
    "expressway toll station": "高速收费站", "golf field": "高尔夫球场", "ground track field": "田径场",
    "harbor": "港口",
    "overpass": "立交桥", "ship": "船", "stadium": "体育场", "storage tank": "储油罐", "tennis court": "网球场",
    "train station": "火车站", "vehicle": "车辆", "windmill": "风车", "swimming pool": "游泳池", "helicopter": "直升机",
    "roundabout": "环岛", "building": "建筑物", "road": "道路", "tree": "树", "bus": "公交车",
    "truck": "卡车", "car": "汽车",
})  # fmt: skip
"""Words of a category's name -> its Chinese name."""


def table_of(names: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the dataset's table of names and aliases.

    Names of a dataset without a table have the aliases of RRSIS-D's category of the same words, if there is one.
    """
    wanted = tuple(names)
    own = next((table for table in (RRSISD, REFSEGRS, RISBENCH) if set(table) == set(wanted)), None)
    if own is not None:
        return own
    common = {spelt_out(name): aliases for name, aliases in RRSISD.items()}
    return {name: common.get(spelt_out(name), ()) for name in wanted}


class CategoryParser:
    """Finds the category that an expression names first. Picklable.

    Attributes:
        names: the categories, in the table's order.

    Raises:
        ValueError: one spelling stands for two categories.
    """

    def __init__(self, table: Mapping[str, Iterable[str]]):
        self.names = tuple(table)
        self._category: dict[tuple[str, ...], str] = {}
        for name, aliases in table.items():
            spellings = {text: tuple(text.lower().split()) for text in (name, *aliases)}
            spellings[" ".join(spelt_out(name))] = spelt_out(name)  # "baseballfield", also written apart
            for spelling, words in spellings.items():
                if self._category.setdefault(words, name) != name:
                    raise ValueError(f"'{spelling}' stands for both '{self._category[words]}' and '{name}'")
        # Whatever begins at one place and ends with a word holds the shorter ones as its first words: most words first.
        longest_first = sorted(self._category, key=len, reverse=True)
        self._owner = [self._category[words] for words in longest_first]
        alternatives = "|".join(f"({_pattern(words)})" for words in longest_first)
        # The letters that some name begins with, looked at before the names: most words begin with none of them.
        initials = "".join(sorted({words[0][0] for words in longest_first}))
        self._regex = re.compile(f"(?<![a-z0-9])(?=[{initials}])(?:{alternatives})(?![a-z0-9])", re.ASCII)

    def __call__(self, expression: str) -> str | None:
        """The category of an expression; None where it names none."""
        found = self._regex.search(expression.lower())
        return None if found is None else self._owner[(found.lastindex or 1) - 1]

    def unmatched(self, expressions: Iterable[str]) -> int:
        """How many of the expressions name no category."""
        return sum(self(expression) is None for expression in expressions)


def _pattern(words: tuple[str, ...]) -> str:
    """A regular expression for the words of a name, the last one in singular or plural."""
    *first, last = words
    if re.search(r"[^aeiou]y$", last):
        plural = f"{last[:-1]}(?:y|ies)"
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        plural = f"{last}(?:es|ses)?"  # "buses" and "busses"
    else:
        plural = f"{last}s?"
    return r"[\s_-]+".join([*first, plural])
