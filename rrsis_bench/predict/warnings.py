"""Warnings about a prediction before it is made."""

from __future__ import annotations

from collections.abc import Sequence

from rrsis_bench.predict import pipeline
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.frame_words import frame_words
from rrsis_bench.predict.pipeline import Options
from rrsis_bench.predict.sources.source import Source


def collect_warnings(
    engine: Engine,
    trained_side: int | None,
    expressions: Sequence[str],
    options: Options,
    source: Source,
    truncated: int,
) -> list[str]:
    """Return warnings about how the image is read, truncated expressions, and effects of the chosen view.

    Args:
        engine: the model.
        trained_side: longer side of its training images in pixels; None if unknown.
        expressions: in order.
        options: frame or tiles.
        source: the image.
        truncated: number of expressions that are longer than the model's token limit.
    """
    lines = list(source.notes)
    if truncated:
        lines.append(
            f"{truncated} of {len(expressions)} expressions are longer than {engine.text.max_tokens} tokens. The model "
            "does not see their ends."
        )
    if options.view == "tile":
        lines += _about_tiles(expressions, options, source)
    side = max(source.height, source.width)
    if options.view == "frame" and trained_side is not None and side > pipeline.LARGE * trained_side:
        lines.append(
            f"The frame of {source.width} x {source.height} pixels is reduced to {engine.side}, and training images "
            f"had {trained_side}: objects below about {side // trained_side * 4} pixels vanish. Choose a part with "
            "--window or --aoi, or use --view tile."
        )
    return lines


def _about_tiles(expressions: Sequence[str], options: Options, source: Source) -> list[str]:
    lines = []
    for expression in expressions:
        words = [word for found in frame_words(expression).values() for word in found]
        if words:
            shown = expression if len(expression) <= 80 else f"{expression[:79]}…"
            lines.append(
                f"Each tile is a separate frame: {', '.join(words)} in '{shown}' apply within a tile, not within the "
                "image."
            )
    lines.append(
        "Most training data has a target in every image, so tiles without a target tend to have false positives. "
        "--presence-min 0.9 drops tiles without a confident pixel."
    )
    needed = pipeline.row_bytes(source, options)
    if needed > options.max_memory:
        lines.append(
            f"A row of tiles takes {needed / 2**20:.0f} MiB for one expression, more than --max-memory. Smaller tiles "
            "(--tile) take less."
        )
    passes = len(pipeline.passes(source, len(expressions), options))
    if passes > 1:
        lines.append(f"The expressions are predicted in {passes} passes over the tiles, to limit memory.")
    return lines
