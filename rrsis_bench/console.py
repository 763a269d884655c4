"""The console of the suite: what it prints is data, so nothing in a name or a sentence is a command to it.

Rich's markup (``[bold]``) and its emoji (``:ship:``, ``train.jsonl:100:``) are off. Styles are given as arguments or
with `rich.text.Text`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from rrsis_bench.printing import printable


class Terminal(Console):
    """A console that prints text as it is, without control characters.

    Args:
        file: where to print; None: the standard output.
        stderr: print on the standard error instead.
        width: in characters; None: the terminal's.
        force_terminal: treat `file` as a terminal or not; None: ask it.
        color_system: of rich; ``auto`` asks the terminal.
        quiet: print nothing.
    """

    def __init__(
        self,
        file: IO[str] | None = None,
        *,
        stderr: bool = False,
        width: int | None = None,
        force_terminal: bool | None = None,
        color_system: Literal["auto", "standard", "256", "truecolor", "windows"] | None = "auto",
        quiet: bool = False,
    ):
        super().__init__(
            file=file, stderr=stderr, width=width, force_terminal=force_terminal, color_system=color_system,
            quiet=quiet, emoji=False, markup=False,
        )  # fmt: skip

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `rich.console.Console.render`, with visible signs for control characters."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)
