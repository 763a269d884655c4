"""What is printed is what the data says: no markup, no emoji, no control character."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from rrsis_bench import cli
from rrsis_bench.console import Terminal
from rrsis_bench.printing import emit, emit_json, printable

DATA = [
    "train.jsonl:100: bad",
    "the :ship: left of the :car:",
    "[bold]pier[/bold]",
    "[/] quay [x]",
    "a\\[b]",
    ":100: [red]",
]


def printed(*things, width=80, terminal=False):
    file = io.StringIO()
    console = Terminal(file, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    for thing in things:
        console.print(thing)
    return file.getvalue()


@pytest.mark.parametrize("text", DATA)
def test_data_is_printed_as_it_is(text):
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    table.add_row(Text(text))
    assert printed(text) == text + "\n"
    assert printed(table).count(text) == 5
    assert text in printed(Text.assemble(("error: ", "bold red"), text))


def test_no_control_character_of_data_reaches_the_terminal():
    hostile = "a\x1b[2J\x1b]0;title\x07b\x9b31mc\rd\x08e\x7ff\u202eg\ud800h"
    table = Table(hostile, title=hostile)
    table.add_row(hostile)
    for text in (printed(hostile), printed(Text(hostile)), printed(table, width=200), printable(hostile)):
        assert not [sign for sign in text if sign != "\n" and not sign.isprintable()]
        assert "a␛[2J␛]0;title" in text
        text.encode()


def test_the_consoles_own_styles_and_progress_still_work():
    text = printed(Text("x", style="bold red"), terminal=True)
    assert "\x1b[1;31mx\x1b[0m" in text
    file = io.StringIO()
    with Progress(console=Terminal(file, width=60, force_terminal=True)) as progress:
        progress.update(progress.add_task("work", total=2), completed=2)
    assert "work" in file.getvalue()
    assert "100%" in file.getvalue()
    assert "\x1b[?25h" in file.getvalue(), "the cursor is shown again"


def test_lines_and_json_on_the_standard_output(capsys):
    emit("a\x1b[31m\tb\nc")
    emit("wrong\x07", error=True)
    assert capsys.readouterr() == ("a␛[31m\tb\nc\n", "wrong␇\n")
    value = {"sentence": "左 :ship: \x1b\x7f\x9b\u202e\ud800 \n"}
    emit_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "左 :ship:" in text
    assert not [sign for sign in text if sign != "\n" and not sign.isprintable()]


def test_a_name_that_is_not_utf8_is_printed(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    emit("scene\udcff.tif")
    assert out.buffer.getvalue() == "scene\ufffd.tif\n".encode()


def test_a_finding_in_line_100_is_printed_with_its_line(tmp_path, capsys):
    """Rich wrote a picture of "100" in place of ``:100:``."""
    line = {"image": "1.png", "expression": "the :ship: [red]", "mask": {"size": [8, 8], "counts": [8, 8, 48]}}
    lines = [json.dumps(line | {"sample_id": str(number)}) for number in range(100)]
    lines[-1] = "{"
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    assert cli.main(["data", "verify", "custom", "--data-root", str(tmp_path)]) != 0
    out, err = capsys.readouterr()
    assert "train.jsonl:100:" in (out + err).replace(" ", "")
