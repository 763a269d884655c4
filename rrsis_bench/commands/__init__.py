"""The verbs of ``rrsis-bench``, one module per group; each has `add`, which adds its parsers."""

from __future__ import annotations

import argparse

from rrsis_bench.printing import emit


def show_help(parser: argparse.ArgumentParser) -> None:
    """Let a parser without a verb of its own print its help."""

    def call(_: argparse.Namespace) -> int:
        emit(parser.format_help(), end="")
        return 0

    parser.set_defaults(call=call)
