"""What a user has to know of a prediction before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rrsis_bench.predict import pipeline
from rrsis_bench.predict.frame_words import frame_words
from rrsis_bench.predict.pipeline import Options
from rrsis_bench.predict.sources.source import Source

if TYPE_CHECKING:
    from rrsis_bench.predict.predictor import Predictor


def remarks(predictor: Predictor, expressions: Sequence[str], options: Options, source: Source, cut: int) -> list[str]:
    """Lines about how the image is read, which words are lost, and what the chosen view does to the expressions.

    Args:
        predictor: with its model's origin.
        expressions: in order.
        options: frame or tiles.
        source: the image.
        cut: expressions that are longer than the model reads.
    """
    lines = list(source.notes)
    if cut:
        lines.append(
            f"{cut} of {len(expressions)} expressions are longer than {predictor.engine.text.max_tokens} "
            "tokens: the model does not see their ends."
        )
    if options.view == "tile":
        for expression in expressions:
            words = [word for found in frame_words(expression).values() for word in found]
            if words:
                shown = expression if len(expression) <= 80 else f"{expression[:79]}…"
                lines.append(
                    f"Each tile is a frame of its own: {', '.join(words)} in '{shown}' then mean something within a "
                    "tile, not within the image."
                )
        lines.append(
            "Most training data has a target in every picture: tiles without one tend to show false ones. "
            "--presence-min 0.9 drops tiles without a sure pixel."
        )
        needed = pipeline.row_bytes(source, options)
        if needed > options.max_memory:
            lines.append(
                f"A row of tiles takes {needed / 2**20:.0f} MiB even for one expression, more than --max-memory; "
                "smaller tiles (--tile) take less."
            )
        passes = len(pipeline.passes(source, len(expressions), options))
        if passes > 1:
            lines.append(f"The expressions are predicted in {passes} passes over the tiles, to stay within the memory.")
    trained, side = predictor.origin.side, max(source.height, source.width)
    if options.view == "frame" and trained is not None and side > pipeline.LARGE * trained:
        lines.append(
            f"The frame of {source.width} x {source.height} pixels is shrunk to {predictor.engine.side}; training "
            f"pictures had {trained}: objects of fewer than about {side // trained * 4} pixels vanish. Cut an area out "
            "with --window or --aoi, or use --view tile."
        )
    return lines
