"""The documentation: its message headings are the code's, its generated pages are complete, and it builds offline."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rrsis_bench import cli
from rrsis_bench.config import cards
from rrsis_bench.config.fields import leaves
from rrsis_bench.config.schema import Config
from rrsis_bench.resources import ROOT
from rrsis_bench.results.record.schema import Record

DOCS = ROOT / "docs"
GAP = "…"


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """The module that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def template(node: ast.AST) -> str:
    """A string expression as text, every computed part as a gap; empty if it is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or GAP for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (template(node.left) or GAP) + (template(node.right) or GAP)
    return ""


def templates() -> list[str]:
    """Every text of the package, without line breaks."""
    found = set()
    for path in (ROOT / "rrsis_bench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = " ".join(template(node).split())
            if text:
                found.add(text)
    return sorted(found)


def test_every_heading_of_the_troubleshooting_page_is_a_message_of_the_code():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert len(headings) >= 35
    known, missing = templates(), []
    for heading in headings:
        parts = heading.split(GAP)
        near = [text for text in known if max(parts, key=len) in text]
        if not any(re.search(".*?".join(map(re.escape, parts)), text) for text in near):
            missing.append(heading)
    assert missing == [], "the code has no such message"


def test_the_command_line_page_has_every_verb_and_every_option(generated):
    page = generated.command_line()

    def parsers(parser: argparse.ArgumentParser, name: str):
        subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not subs:
            yield name, parser
        for action in subs:
            for verb, sub in action.choices.items():
                yield from parsers(sub, f"{name} {verb}")

    for name, parser in parsers(cli.build_parser(), "rrsis-bench"):
        section = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section is not None, name
        for action in parser._actions:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert option in ("-h", "--help") or f"`{option}`" in section[1].replace(r"\|", "|"), f"{name} {option}"


def test_the_configuration_page_has_every_field_and_every_file(generated):
    page = generated.configuration()
    for name, _, _ in leaves(Config):
        assert f"| `{name}` |" in page, name
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"local", "recipe", "backbones"}
    assert groups == set(generated.GROUPS)
    for group in ("model", "data", "vision", "text", "protocol"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in page, path


def test_the_record_page_has_every_field(generated):
    page = generated.record_fields()
    for name in Record.__dataclass_fields__:
        assert f"| `{name}` |" in page, name


def test_the_status_page_tells_measured_from_printed(generated):
    page = generated.status()
    rrsisd = page.partition("## rrsisd, test")[2].partition("\n## ")[0]
    line = next(line for line in rrsisd.splitlines() if line.startswith("| `fianet`"))
    assert "FIANet Table" in line
    synthetic = page.partition("## Synthetic scenes")[2]
    lavt = next(line for line in synthetic.splitlines() if line.startswith("| `lavt`"))
    assert re.search(r"\d\d\.\d\d / \d\d\.\d\d \(native, 3 seeds\)", lavt)
    for model in cards.collect()["models"]:
        if model["source"] == "in-tree":
            assert f"| `{model['name']}` |" in page, model["name"]


def test_the_table_of_models_follows_from_their_cards():
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- models -->\n(.*?)<!-- /models -->", text, re.DOTALL)
    assert block is not None
    assert block[1] == cards.markdown(cards.collect()), "rrsis-bench list --markdown prints the table"


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^([a-z_/]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= listed


@pytest.mark.slow
def test_the_documentation_builds_without_network_and_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="pip install 'rrsis-bench[docs]'")
    offline = "import socket, sys\ndef refuse(*a, **k): raise OSError('no network')\n" \
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n" \
        "from sphinx.cmd.build import main\nsys.exit(main(sys.argv[1:]))\n"  # fmt: skip
    command = [sys.executable, "-c", offline, "-b", "html", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outside = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["'](?:https?:)?//""")
    pages = list(Path(tmp_path).rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not outside.search(page.read_text(encoding="utf-8")), page
