"""rrsis-bench: one command, one protocol, one table for referring remote sensing image segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# A wheel holds models/ and conf/ inside this package. In a checkout they are beside it, and found there.
if not (Path(__file__).parent / "models").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "load_official"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts without torch."""
    if name == "load_official":
        from rrsis_bench.run.model import load_official

        return load_official
    if name == "Predictor":
        from rrsis_bench.predict.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'rrsis_bench' has no attribute '{name}'")
