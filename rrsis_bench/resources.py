"""Locations of the files that travel with the suite.

A checkout keeps ``conf/``, ``models/``, ``leaderboards/published/`` and ``CITATION.cff`` beside this package. A wheel
holds the same files, under the same names, inside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / "models").is_dir()
"""True for an installed wheel, False for a checkout."""
ROOT = _PACKAGE if INSTALLED else _PACKAGE.parent
"""The folder that holds ``conf``, ``models``, ``leaderboards/published`` and ``CITATION.cff``."""
CONF = ROOT / "conf"
LOCAL = CONF / "local" if not INSTALLED else Path("conf/local")
"""Configurations of this machine, which git ignores; of an installed wheel, below the current directory."""
LEADERBOARDS = ROOT / "leaderboards"
"""The suite's own leaderboards. A wheel has only the published numbers in it."""
FORMATS = _PACKAGE / "data" / "formats"
CHECKOUT = None if INSTALLED else ROOT
"""The checkout, whose git state belongs to a run. None for an installed wheel."""


def names(group: str) -> list[str]:
    """Return the names of the files in a group of ``conf/`` and of ``conf/local/``, sorted."""
    return sorted({path.stem for folder in (CONF, LOCAL) for path in (folder / group).glob("*.yaml")})


def choices(group: str) -> str:
    """Return the names of a group, for the help of the command line."""
    return ", ".join(names(group))


def formats(module: str = "dataset") -> str:
    """Return the dataset formats that have a module, ``dataset`` or ``write``, for the help of the command line."""
    return ", ".join(sorted(path.parent.name for path in FORMATS.glob(f"*/{module}.py")))
