"""The verb ``config``: every field of the configuration, and the named entries of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    config = verbs.add_parser(
        "config",
        help="print the configuration fields: meaning, unit, default, and which results they affect",
        description="Print every configuration field with its meaning, unit and default, and whether it affects the "
        "training or the evaluation of a run. Overrides such as model=lavt show the defaults of another run.",
        epilog="example: rrsis-bench config train model=lavt data=rrsisd",
    )
    config.add_argument("arguments", nargs="*", metavar="PREFIX | OVERRIDE", help="such as: trainer, or data=rrsisd")
    config.set_defaults(call=_config)


def _config(args: argparse.Namespace) -> int:
    from rich.table import Table

    from rrsis_bench.config.compose import compose_config
    from rrsis_bench.config.fields import affects, leaves, meaning
    from rrsis_bench.config.schema import Config
    from rrsis_bench.console import Terminal
    from rrsis_bench.errors import unknown

    overrides = [argument for argument in args.arguments if "=" in argument]
    prefixes = [argument for argument in args.arguments if "=" not in argument]
    config = compose_config(overrides)
    fields = {name: field for name, _, field in leaves(Config)}
    for prefix in prefixes:
        if not any(_below(name, prefix) for name in fields):
            raise unknown("configuration field", prefix, [*fields, *dict.fromkeys(n.split(".")[0] for n in fields)])
    chosen = {name: f for name, f in fields.items() if not prefixes or any(_below(name, p) for p in prefixes)}
    table = Table(title="Configuration", title_justify="left")
    for column in ("field", "default", "unit", "affects", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in chosen.items():
        value: Any = config
        for step in name.split("."):
            value = getattr(value, step)
        known, effect = meaning(field), affects(field).name or "nothing"
        shown = "..." if len(str(value)) > 60 else str(value)
        table.add_row(name, shown, known.unit, effect.lower(), known.text)
    console = Terminal()
    console.print(table)
    _entries(console, prefixes)
    return 0


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _entries(console: Any, prefixes: Sequence[str]) -> None:
    """Print the named entries of the recipe and the probes with their options."""
    import dataclasses

    from rich.table import Table

    from rrsis_bench.config.fields import meaning
    from rrsis_bench.eval import probing
    from rrsis_bench.train.recipe import KINDS

    table = Table(title="Named entries", title_justify="left")
    for column in ("field", "name", "option", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for kind in (*KINDS, probing.load()):
        if prefixes and not any(_below(kind.field, prefix) for prefix in prefixes):
            continue
        for name in kind:
            options = dataclasses.fields(kind.options(name))
            if not options:
                table.add_row(kind.field, name)
            for option in options:
                default = "required" if option.default is dataclasses.MISSING else str(option.default)
                table.add_row(kind.field, name, option.name, default, meaning(option).text)
    if table.row_count:
        console.print(table)
