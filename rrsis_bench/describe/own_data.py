"""``rrsis-bench data init``: write the configuration of an own dataset, so that its rows rank and cite properly."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from rrsis_bench.data.formats import SPLITS, read_index
from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import write_text
from rrsis_bench.resources import CONF, LOCAL

NAME = re.compile(r"[a-z][a-z0-9_]*")
LOOKED_AT = 20
"""Images whose size is read. If they agree, it is the default tile of `predict`."""


@dataclass(frozen=True, slots=True)
class OwnCard:
    """What a person says about the data; None leaves a text to be filled in.

    Attributes:
        title: of the dataset.
        source: how to get it.
        licence: of the data.
        bibtex: an entry for `rrsis-bench cite`.
    """

    title: str | None = None
    source: str | None = None
    licence: str | None = None
    bibtex: str | None = None


@dataclass(frozen=True, slots=True)
class Initialised:
    """The written configuration.

    Attributes:
        path: the file.
        counts: split -> samples.
        languages: language -> samples.
    """

    path: Path
    counts: dict[str, int]
    languages: dict[str, int]


def initialise(name: str, root: Path, card: OwnCard, *, overwrite: bool = False) -> Initialised:
    """Read a dataset in the plain format and write ``conf/local/data/<name>.yaml``.

    Args:
        name: of the dataset in every table.
        root: its folder, with ``train.jsonl``, ``val.jsonl`` and ``test.jsonl``.
        card: title, source, licence and citation.
        overwrite: replace an earlier configuration of this name.

    Raises:
        UserError: a name of the suite's own datasets, a configuration that exists, or a dataset with defects.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name of a dataset: use small letters, digits and _, with a letter first.")
    if (CONF / "data" / f"{name}.yaml").exists():
        raise UserError(f"'{name}' is a dataset of the suite. Choose another name for your own data.")
    path = LOCAL / "data" / f"{name}.yaml"
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists. Edit it, or replace it with --overwrite.")
    index = read_index("custom", root)
    index.require_readable(SPLITS)
    languages = Counter(row.language for row in index.all_rows())
    total, chinese = sum(languages.values()), languages["zh"]
    title = card.title or name
    written = {"title": title, "source": card.source or "own data", "licence": card.licence or "not stated"}
    content: dict[str, Any] = {
        "name": name,
        "format": "custom",
        "root": str(root.resolve()),
        "counts": dict(index.counts),
        "synthetic": None,
        "publish": False,
        "notes": [f"{chinese} of {total} expressions are Chinese"] if chinese else [],
        "card": {
            **written,
            "defects": [],
            "side": _side(sorted({row.image for row in index.all_rows()})),
            "bibtex": card.bibtex or _entry(name, title),
        },
    }
    write_text(path, _HEAD.format(name=name) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    return Initialised(path, dict(index.counts), dict(languages))


_HEAD = """\
# An own dataset, written by `rrsis-bench data init {name}`. Use it as data={name}. Edit the card: `rrsis-bench cite`
# prints its BibTeX. The counts say what a complete copy has, so that rows are ranked; run `data init` again with
# --overwrite if samples were added. publish: true enters results into the tracked leaderboards.
"""


def _entry(name: str, title: str) -> str:
    return f"@misc{{{name},\n  title = {{{title}}},\n  note = {{own data}},\n}}\n"


def _side(images: list[str]) -> int | None:
    """Return the longer side of the images; None if it differs among the first `LOOKED_AT`."""
    sides = set()
    for name in images[:LOOKED_AT]:
        try:
            with Image.open(name) as image:
                sides.add(max(image.size))
        except OSError as error:
            raise UserError(f"The image {name} cannot be read: {reason(error)}.") from error
    return sides.pop() if len(sides) == 1 else None
