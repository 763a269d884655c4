"""The console script ``rrsis-bench``. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import os
import sys

import rrsis_bench
from rrsis_bench.commands import boards, config, data, doctor, page, predict, published, runs, score, show_help
from rrsis_bench.errors import UserError
from rrsis_bench.printing import emit
from rrsis_bench.stop import Interrupted, StopRequest

GROUPS = (runs, config, predict, score, boards, page, published, data, doctor)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code (2 after a message for the user)."""
    arguments = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions; see docs/quickstart.md
        import argcomplete

        argcomplete.autocomplete(build_parser())
    try:
        with StopRequest():
            return _run(arguments)
    except Interrupted as stopped:
        emit(str(stopped), error=True)
        return stopped.exit_code


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["bench"], ["evaluate"]) and not {"-h", "--help", "--rescore", "--rerun"} & set(arguments):
        from rrsis_bench.run import __main__ as run

        return run.main(arguments[1:], verb=arguments[0])
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.call(args)
        return code
    except UserError as error:
        emit(f"error: {error}", error=True)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(
        prog="rrsis-bench", description="Benchmark suite for referring remote sensing image segmentation."
    )
    parser.add_argument("--version", action="version", version=f"rrsis-bench {rrsis_bench.__version__}")
    show_help(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for group in GROUPS:
        group.add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
