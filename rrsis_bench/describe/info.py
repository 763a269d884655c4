"""``rrsis-bench data info``: a dataset's card, its files on disk, and the contents of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rrsis_bench.config.schema import DataConfig
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.fingerprint import fingerprint
from rrsis_bench.data.formats import SPLITS, DatasetIndex, format_module, read_index
from rrsis_bench.errors import UserError

CHEAP_BYTES = 256 * 2**20
"""The fingerprint reads every image. Up to this total size it is computed without --fingerprint."""


def show_card(config: DataConfig, console: Terminal) -> None:
    """Print the card and the layout.

    Args:
        config: the ``data`` node of ``conf/data/<name>.yaml``.
        console: where to.
    """
    card = config.card
    assert card is not None, "every file of conf/data has a card"
    console.print(Text.assemble((config.name, "bold"), f"  {card.title}"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("get it", card.source)
    if card.side:
        table.add_row("images", f"{card.side} pixels along the longer side")
    table.add_row("licence", card.licence)
    table.add_row("format", config.format)
    if config.counts:
        table.add_row("samples", ", ".join(f"{split} {n:,}" for split, n in config.counts.items()))
    if card.image_sources:
        table.add_row("image sources", ", ".join(card.image_sources))
    for label, lines in (("known defects", card.defects), ("known overlap", card.overlap)):
        for number, line in enumerate(lines):
            table.add_row(label if number == 0 else "", "- " + " ".join(line.split()))
    console.print(Padding(table, (1, 0, 0, 2)), highlight=False)
    for label, text in (("layout", layout_of(config.format)), ("citation", card.bibtex)):
        if text:
            console.print(f"\n  {label}", style="bold")
            console.print(indent(str(text).rstrip(), "    "), soft_wrap=True, highlight=False)


def layout_of(fmt: str) -> str:
    """Return the files of a format, drawn as a tree."""
    return str(format_module(fmt).DIRECTORY_TREE)


def show_found(
    config: DataConfig, root: Path, expected: Mapping[str, int] | None, console: Terminal, *, deep: bool = False
) -> bool:
    """Print the contents of `root`: found and expected samples per split, and the fingerprint if it is cheap.

    Args:
        config: the ``data`` node.
        root: the dataset's folder.
        expected: samples per split, or None.
        console: where to.
        deep: always compute the fingerprint.

    Returns:
        True if all splits can be read.
    """
    try:
        index = read_index(config.format, root, config.options)
        index.require_readable(SPLITS)
    except UserError as error:
        console.print(f"\nnot usable in {root}:", style="yellow", highlight=False)
        reason = str(error).partition("\n\n")[0]  # the rest says where to get the dataset, like the card
        console.print(indent(reason, "  "), soft_wrap=True, highlight=False)
        console.print(f"  Details: rrsis-bench data verify {config.name} --data-root {root}", soft_wrap=True)
        return False
    table = Table(title=f"found in {root}", title_justify="left")
    for column in ("split", "samples", "published"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, n in index.counts.items():
        published = (expected or {}).get(split)
        style = "" if published in (None, n) else "yellow"
        table.add_row(split, f"{n:,}", "" if published is None else f"{published:,}", style=style)
    console.print()
    console.print(table)
    if expected and index.counts != dict(expected):
        text = "The numbers of samples differ from the published ones: its rows are unranked."
        console.print(text, style="yellow")
    for note in (note for split in SPLITS for note in index.notes.get(split, ())):
        console.print(note, highlight=False)
    size = _bytes(index)
    if size <= CHEAP_BYTES or deep:
        with console.status(f"reading {size / 2**30:.2f} GiB of images"):
            digest = fingerprint(index)
        console.print(f"fingerprint {digest}", soft_wrap=True, highlight=False)
    else:
        console.print(f"fingerprint: not computed ({size / 2**30:.1f} GiB of images). Use --fingerprint.")
    return True


def _bytes(index: DatasetIndex) -> int:
    """Return the total size in bytes of all image files."""
    return sum(Path(image).stat().st_size for image in {row.image for row in index.all_rows()})
