"""BibTeX for a model's paper, a dataset's paper and this suite, from their cards and ``CITATION.cff``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from rrsis_bench import registry
from rrsis_bench.config.cards import data_config, model_card
from rrsis_bench.config.schema import DataCard, ModelCard
from rrsis_bench.errors import unknown
from rrsis_bench.resources import ROOT
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.record import store
from rrsis_bench.results.record.identity import attestation


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
    entries = [_entry(model, model_card(models[model]))]
    config = data_config(data, root)
    if config.card and not config.synthetic:  # the suite writes synthetic scenes, and it is cited anyway
        entries.append(_entry(data, config.card))
    return "\n\n".join(dict.fromkeys([*entries, _suite(root)])) + "\n"


def attested(model: str, data: str, leaderboards: Path) -> str:
    """Return one BibTeX comment per ranked row of a model on a dataset, with its score and its attestation.

    The attestation is a sha256 over the row's records and their integers. A row that prints another one was changed.
    """
    records = [record for record in store.read_all(leaderboards) if record.data == data]
    lines = []
    for row in rank(records, leaderboards):
        score = row.score("miou").value
        if row.head.model == model and row.rank is not None and score is not None:
            where = f"{row.head.data} {row.head.split}, protocol {row.head.protocol.name}, {len(row.records)} seeds"
            lines.append(f"% {row.label} on {where}: mIoU {score:.2f}, attestation sha256 {attestation(row.records)}\n")
    return "".join(lines)


def _entry(name: str, card: ModelCard | DataCard) -> str:
    """The card's BibTeX; without one, the title, venue, year and address that it gives."""
    if card.bibtex:
        return card.bibtex.strip()
    venue, url = (card.venue, card.url or "") if isinstance(card, ModelCard) else ("", "")
    fields = {"title": f"{{{_bib(card.title or name)}}}"}
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
