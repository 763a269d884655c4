"""The pages that follow from the code: command line, configuration, records, and the status of every model.

`make docs` writes them to ``docs/reference/``, which git ignores.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rrsis_bench import cli, files
from rrsis_bench.config.cards import collect
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.fields import affects, leaves, meaning
from rrsis_bench.config.schema import Config
from rrsis_bench.resources import CONF, LEADERBOARDS
from rrsis_bench.results.board.rows import BoardRow, rank
from rrsis_bench.results.board.tables import leaderboard_columns
from rrsis_bench.results.published import numbers
from rrsis_bench.results.record import schema, store
from rrsis_bench.results.render.text import number, plain_markdown
from rrsis_bench.train.recipe import KINDS

HERE = Path(__file__).parent
GROUPS = {
    "model": "Models.",
    "data": "Datasets.",
    "size": "The published set-up (`paper`), or toy width (`tiny`).",
    "vision": "Vision backbones.",
    "text": "Text backbones with their tokenizers.",
    "trainer": "The machine.",
    "protocol": "How predictions are scored.",
    "experiment": "Changes of a recipe under one name.",
    "ablation": "Tables of a paper, one run per row.",
    "launcher": "Where runs go on.",
    "logger": "Mirror of the event log.",
    "debug": "Short trials.",
}
"""Group of ``conf/`` -> what its files choose."""

SPLIT_ORDER = ("test", "val")


def write_pages(folder: Path) -> None:
    """Write every generated page; a page that did not change keeps its time, so that Sphinx does not read it again."""
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)


def command_line() -> str:
    """Return every verb with its arguments, from the parsers."""
    lines = [
        "# Command line",
        "",
        "`rrsis-bench VERB --help` prints the same. `bench` and `evaluate` take Hydra overrides: [Configuration "
        "fields](configuration.md) lists them. Exit codes: 0 done, 1 a negative answer (a defect, a difference, a "
        "failed run), 2 an error that the message explains, 130 and 143 stopped by Ctrl-C and SIGTERM.",
        "",
    ]
    for name, parser, text in _verbs(cli.build_parser()):
        lines += [f"## `{name}`", "", plain_markdown(text[0].upper() + text[1:]).rstrip(".") + ".", ""]
        description = inspect.cleandoc(parser.description or "")
        if description and description.rstrip(".").casefold() != text.rstrip(".").casefold():
            raw = parser.formatter_class is argparse.RawDescriptionHelpFormatter
            lines += ["```", description, "```", ""] if raw else [plain_markdown(description), ""]
        lines += ["```", _usage(parser), "```", ""]
        lines += _table(("argument", "meaning"), list(_arguments(parser)))
        if parser.epilog:
            examples = re.sub(r"^examples?: ", "", " ".join(parser.epilog.split()))
            lines += ["Examples:" if parser.epilog.startswith("examples") else "Example:", "", "```"]
            lines += [part.strip() for part in re.split(r"; | \| ", examples)] + ["```", ""]
    return "\n".join(lines)


def _verbs(parser: argparse.ArgumentParser, prefix: str = "rrsis-bench") -> Iterator[tuple[str, Any, str]]:
    """Yield (full name, parser, help) of every verb that takes arguments of its own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, sub in action.choices.items():
                if any(isinstance(inner, argparse._SubParsersAction) for inner in sub._actions):
                    yield from _verbs(sub, f"{prefix} {verb}")
                else:
                    yield f"{prefix} {verb}", sub, texts[verb]


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage at a fixed width; a parser's own depends on the terminal."""
    formatter = parser.formatter_class(parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().rstrip()


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield (name, meaning) of every argument as Markdown."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
        if action.option_strings:
            name = ", ".join(f"`{option}`" for option in action.option_strings)
            name += f" `{value}`" if value else ""
        else:
            name = f"`{action.metavar or action.dest}`"
        text = formatter._expand_help(action) if action.help else ""
        if action.choices is not None and action.metavar is not None:
            text += f" (one of: {', '.join(map(str, action.choices))})"
        yield name, plain_markdown(text) + (" (required)" if action.required and action.option_strings else "")


def configuration() -> str:
    """Return every field, every named entry of a recipe, and every group of files."""
    config = compose_config([])
    lines = [
        "# Configuration fields",
        "",
        "Every field of a run, as `rrsis-bench config` prints it. The defaults are those of "
        "`rrsis-bench bench` without overrides (FIANet on the synthetic scenes). A field that affects the training is "
        "part of the train hash, one that affects the evaluation is part of the eval hash.",
        "",
    ]
    sections: dict[str, list[tuple[str, ...]]] = {}
    for name, hint, field in leaves(Config):
        value: Any = config
        for step in name.split("."):
            value = getattr(value, step)
        section = name.partition(".")[0] if "." in name else "run"
        sections.setdefault(section, []).append(
            (f"`{name}`", _default(value), _allowed(hint, field), _effect(field), plain_markdown(meaning(field).text))
        )
    for section, rows in sections.items():
        lines += [f"## {section}", "", *_table(("field", "default", "values", "affects", "meaning"), rows)]
    lines += ["## Entries of a recipe", "", "Named entries of the lists and mappings below `train`.", ""]
    entries = []
    for kind in KINDS:
        for name in kind:
            options = dataclasses.fields(kind.options(name))
            shown = "<br>".join(f"`{option.name}`: {plain_markdown(meaning(option).text)}" for option in options)
            entries.append((f"`{kind.field}`", f"`{name}`", shown))
    lines += _table(("field", "name", "options"), entries)
    lines += ["## Groups of files", "", "`group=name` picks the file `conf/group/name.yaml`.", ""]
    groups = []
    for group, text in GROUPS.items():
        names = sorted(path.relative_to(CONF / group).with_suffix("") for path in (CONF / group).rglob("*.yaml"))
        if group == "size":
            names = [name for name in names if len(name.parts) == 1]
        groups.append((f"`{group}`", text, ", ".join(f"`{name}`" for name in names)))
    return "\n".join([*lines, *_table(("group", "what it picks", "names"), groups)])


def _default(value: Any) -> str:
    text = "null" if value is None else str(value)
    return "(see the file)" if len(text) > 40 else f"`{text}`" if text else "(empty)"


def _effect(field: Any) -> str:
    return {"TRAINING": "training", "EVALUATION": "evaluation", "BOTH": "both"}.get(affects(field).name or "", "")


def _allowed(hint: Any, field: Any) -> str:
    """Return the allowed values of a field: its choices, or its type with bounds and unit."""
    known, parts = meaning(field), []
    optional = type(None) in typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(inner for inner in typing.get_args(hint) if inner is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        parts.append(", ".join(f"`{value}`" for value in typing.get_args(hint)))
    else:
        origin = typing.get_origin(hint) or hint
        parts.append({
            bool: "true, false", int: "integer", float: "number", str: "text", dict: "mapping", list: "list",
            tuple: "list",
        }.get(origin, "mapping"))  # fmt: skip
    parts += [f"at least {known.at_least:g}"] if known.at_least is not None else []
    parts += [f"above {known.above:g}"] if known.above is not None else []
    parts += [f"below {known.below:g}"] if known.below is not None else []
    unit = f" {known.unit}" if known.unit else ""
    return ", ".join(parts) + unit + (", or null" if optional else "")


def record_fields() -> str:
    """Return the fields of a record with the comments of their declarations, and the columns of the tables."""
    lines = [
        "# Fields of a record",
        "",
        f"A record is one JSON file per run and split (schema version {schema.SCHEMA_VERSION}). `null` means: not "
        "measured. [Runs, records and tables](../records.md) says where the files are.",
        "",
    ]
    for cls in (schema.Record, schema.Attempt, schema.DatasetCard, schema.CountsFile):
        lines += [f"## {cls.__name__}", "", (inspect.getdoc(cls) or "").splitlines()[0], ""]
        lines += _table(("field", "type", "meaning"), list(_commented(cls)))
    columns = ", ".join(f"`{name}`" for name in leaderboard_columns())
    return "\n".join([*lines, "## Columns of a leaderboard file", "", columns + ".", ""])


def _commented(cls: type) -> Iterator[tuple[str, str, str]]:
    """Yield (name, type, comment on the line) of the fields of a dataclass."""
    source = inspect.getsource(cls).splitlines()
    (node,) = ast.parse("\n".join(source)).body
    assert isinstance(node, ast.ClassDef)
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            _, _, comment = source[field.lineno - 1].partition("  # ")
            yield f"`{ast.unparse(field.target)}`", f"`{ast.unparse(field.annotation)}`", plain_markdown(comment)


def status() -> str:
    """Return, per dataset, what each model's paper prints and what this suite has measured."""
    models = [model for model in collect()["models"] if model["source"] == "in-tree"]
    rows = rank(store.read_all(LEADERBOARDS), LEADERBOARDS)
    lines = [
        "# Reproduction status",
        "",
        "What is held to the authors' code, what the papers print, and what this suite has measured. A number of the "
        "papers comes from other code, protocols and checkpoint selection, and is never ranked with a measured one. "
        "A model without a measured number on a dataset has not been trained on it here.",
        "",
        "## Code and weights",
        "",
        *_table(
            ("model", "held to the authors' code", "released weights"),
            [(f"`{m['name']}`", m["parity"] or "not stated", plain_markdown(m["weights"] or "none")) for m in models],
        ),
    ]
    for data in numbers.datasets(LEADERBOARDS):
        printed = numbers.overall(LEADERBOARDS, data)
        for split in [s for s in SPLIT_ORDER if any(row.split == s for row in printed)]:
            lines += [f"## {data}, {split}", "", *_status_table(data, split, models, printed, rows)]
    lines += ["## Synthetic scenes", "", "Every model at toy width, trained from scratch. No paper prints them.", ""]
    measured = [row for row in rows if row.head.data.startswith("synthetic")]
    names = list(dict.fromkeys(row.head.data for row in measured))
    lines += _table(
        ("model", *names),
        [(f"`{m['name']}`", *(_measured(m["name"], data, "test", rows) for data in names)) for m in models],
    )
    return "\n".join(lines)


def _status_table(
    data: str, split: str, models: list[Any], printed: list[numbers.PublishedRow], rows: list[BoardRow]
) -> list[str]:
    body, neither = [], []
    for model in models:
        found = [row for row in printed if row.split == split and row.method in model["printed_as"]]
        if not found and not any((row.head.model, row.head.data) == (model["name"], data) for row in rows):
            neither.append(f"`{model['name']}`")
            continue
        shown = "<br>".join(
            f"{number(row.scores.get('miou'))} / {number(row.scores.get('oiou'))} ({plain_markdown(row.source)})"
            for row in found
        )
        body.append((f"`{model['name']}`", shown or "not printed", _measured(model["name"], data, split, rows)))
    lines = _table(("model", "printed mIoU / oIoU (source)", "measured mIoU / oIoU"), body)
    return [*lines, f"Neither printed nor measured: {', '.join(neither)}.", ""] if neither else lines


def _measured(model: str, data: str, split: str, rows: list[BoardRow]) -> str:
    """Return mIoU and oIoU of a model's default row; what is not ranked says so."""
    found = [
        row for row in rows
        if (row.head.model, row.head.data, row.head.split) == (model, data, split) and not row.head.variant
    ]  # fmt: skip
    texts = []
    for row in found:
        scores = f"{number(row.score('miou').value)} / {number(row.score('oiou').value)}"
        seeds = f"{len(row.records)} seed{'s' if len(row.records) > 1 else ''}"
        texts.append(f"{scores} ({row.head.protocol.name}, {seeds}{', not ranked' if row.reason else ''})")
    return "<br>".join(texts) or "not measured"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; cells are Markdown already."""
    if not rows:
        return []
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *body, ""]


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))


def script(name: str) -> str:
    """Return a script of ``docs/scripts/`` as a page: its comment cells are the text, its other cells the code."""
    cells = re.split(r"^# %%", (HERE / "scripts" / f"{name}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    parts = []
    for cell in cells:
        kind, _, body = cell.partition("\n")
        if "[markdown]" in kind:
            parts.append(re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE))
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli": command_line, "configuration": configuration, "record": record_fields, "status": status,
    "own_geotiff": lambda: script("own_geotiff"), "own_model_script": lambda: script("own_model"),
}  # fmt: skip
"""Name of the page in ``docs/reference/`` -> what writes it."""
