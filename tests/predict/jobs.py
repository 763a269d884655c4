"""Jobs on the echo model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rrsis_bench.predict import job
from tests.fakes.echo import Echo, make_predictor
from tests.predict.rasters import blobs

SIDE = 96
SENTENCES = ("the ship on the left", "the red vehicle")
QUIET = [].append
NO_PROGRESS = lambda _: QUIET  # noqa: E731


def square() -> np.ndarray:
    return blobs(SIDE, SIDE)


def predict(image: Path, out: Path, sentences=SENTENCES, predictor=None, **fields):
    """Run a job on the echo model; returns the JSON's content."""
    made = make_predictor(Echo(SIDE), sentences) if predictor is None else predictor
    options = fields.pop("options", {"view": "frame"})
    request = job.Request(image, tuple(sentences), out, options, **fields)
    return job.run(request, lambda: made, QUIET, NO_PROGRESS)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
