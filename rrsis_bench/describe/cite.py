"""BibTeX for a model's paper, a dataset's paper and this suite, from their cards and ``CITATION.cff``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rrsis_bench import registry
from rrsis_bench.config.cards import data_config
from rrsis_bench.errors import unknown
from rrsis_bench.resources import ROOT


def cite(model: str, data: str, root: Path = ROOT) -> str:
    """Return BibTeX entries: a card's own `bibtex` if it has one, else an entry from its other fields.

    Args:
        model: a model's name.
        data: a dataset's name.
        root: the checkout, for ``conf/data`` and ``CITATION.cff``.

    Raises:
        UserError: an unknown name, with suggestions.
    """
    models = registry.entries(root)
    if model not in models:
        raise unknown("model", model, sorted(models))
    entries = [_entry(model, registry.card(models[model]))]
    config = data_config(data, root)
    if not config["scenes"]:  # scenes are written by the suite, which is cited anyway
        entries.append(_entry(data, config["card"]))
    return "\n\n".join(dict.fromkeys([*entries, _suite(root)])) + "\n"


def _entry(name: str, card: Mapping[str, Any]) -> str:
    """The card's BibTeX; without one, the title, venue, year and address that it gives."""
    if card.get("bibtex"):
        return str(card["bibtex"]).strip()
    venue, url = str(card.get("venue") or ""), str(card.get("url") or "")
    fields = {"title": f"{{{_bib(str(card.get('title', name)))}}}"}
    year = re.search(r"\b(?:19|20)\d\d\b", venue)
    if year:
        fields["year"] = year[0]
    if venue:
        fields["note"] = _bib(venue)
    arxiv = re.search(r"arxiv\.org/abs/([0-9.]+)", url)
    if arxiv:
        fields |= {"eprint": arxiv[1], "archiveprefix": "arXiv"}
    if url:
        fields["url"] = url
    return _bibtex("misc", name, fields)


def _suite(root: Path) -> str:
    """Return the suite's entry, from ``CITATION.cff``."""
    cff = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    names = [
        f"{{{_bib(author['name'])}}}"
        if "name" in author
        else _bib(", ".join(author[part] for part in ("family-names", "given-names") if part in author))
        for author in cff["authors"]
    ]
    fields = {"author": " and ".join(names), "title": f"{{{_bib(cff['title'])}}}"}
    if "date-released" in cff:
        fields["year"] = str(cff["date-released"])[:4]
    fields["version"] = str(cff["version"])
    if "repository-code" in cff:
        fields["url"] = str(cff["repository-code"])
    return _bibtex("software", "rrsis-bench", fields)


def _bibtex(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _bib(text: str) -> str:
    """Escape characters that BibTeX would read as commands."""
    return re.sub(r"([&%$#_])", r"\\\1", text)
