"""Environment checks, each with a suggested fix."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import urlsplit

from rrsis_bench.data.text.heads import PARSE_EXTRA, PIPELINE
from rrsis_bench.errors import reason
from rrsis_bench.predict.sources.raster import EXTRA, missing

MIN_FREE_GB = 10.0
"""Below this, training at paper size may fail: three checkpoints with optimiser state are kept, about 3 GB each."""

HUB_TIMEOUT_S = 3.0
HUB = "https://huggingface.co"
INSTALL = "pip install -c constraints.txt -e ."
_TAGGER = "taggers/averaged_perceptron_tagger_eng/"


@dataclass(frozen=True, slots=True)
class EnvironmentCheck:
    """The result of one check.

    Attributes:
        name: the part that was checked.
        state: ``ok``; ``note``: something optional is missing; ``problem``: something will fail.
        text: the result.
        fix: a suggestion; empty if nothing has to be done.
    """

    name: str
    state: str
    text: str
    fix: str = ""


def check_environment(runs: Path) -> list[EnvironmentCheck]:
    """Run all checks.

    Args:
        runs: folder of the runs, whose disk is checked.
    """
    checks: dict[str, Callable[[], EnvironmentCheck]] = {
        "Python": python,
        "packages": packages,
        "torch": torch_and_device,
        "GeoTIFF": gdal,
        "PROJ": lambda: proj(os.environ),
        "disk": lambda: disk(runs),
        "hub": lambda: hub(os.environ),
        "NLTK": nltk_data,
        "spaCy": parser,
        "fonts": cjk_font,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], EnvironmentCheck]) -> EnvironmentCheck:
    """Run a check. A missing package that the check itself needs is a problem, too."""
    try:
        return check()
    except ImportError as error:
        return EnvironmentCheck(name, "problem", f"cannot be checked: {reason(error)}", INSTALL)


def python() -> EnvironmentCheck:
    """Report the interpreter."""
    return EnvironmentCheck("Python", "ok", f"{sys.version.split()[0]} ({sys.executable})")


def packages() -> EnvironmentCheck:
    """Check that every dependency is installed in an accepted version."""
    from packaging.requirements import Requirement

    wrong, count = [], 0
    try:
        requires = distribution("rrsis-bench").requires or []
    except PackageNotFoundError:
        return EnvironmentCheck(
            "packages", "problem", "rrsis-bench is not installed, so required versions are unknown", INSTALL
        )
    for text in requires:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, needed {requirement.specifier}")
    if wrong:
        return EnvironmentCheck("packages", "problem", "; ".join(wrong), INSTALL)
    return EnvironmentCheck("packages", "ok", f"all {count} are installed")


def torch_and_device() -> EnvironmentCheck:
    """Check torch, its device, and that torchvision's operators fit torch."""
    import torch

    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError) as error:
        fix = "install both from one source: pip install -c constraints.txt torch torchvision"
        text = f"{torch.__version__}, but torchvision does not fit it ({reason(error)})"
        return EnvironmentCheck("torch", "problem", text, fix)
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return EnvironmentCheck(
            "torch", "ok", f"{torch.__version__}, {device.name}, {device.total_memory / 2**30:.0f} GiB"
        )
    text = f"{torch.__version__}, no GPU: {torch.get_num_threads()} CPU threads"
    if shutil.which("nvidia-smi"):
        fix = "the driver may be older than torch's CUDA: update it, or install a torch that is built for it"
        return EnvironmentCheck("torch", "problem", f"{text}, although this machine has an NVIDIA driver", fix)
    return EnvironmentCheck("torch", "ok", text)


def gdal() -> EnvironmentCheck:
    """Check the libraries for GeoTIFFs and polygons. Two copies of GDAL in one process are mostly harmless."""
    if absent := missing():
        return EnvironmentCheck("GeoTIFF", "note", f"{', '.join(absent)} not installed: PNG and JPEG only", EXTRA)
    try:
        import pyogrio
        import rasterio
    except ImportError as error:
        return EnvironmentCheck("GeoTIFF", "problem", f"cannot be loaded ({error})", f"{EXTRA} --force-reinstall")
    ours, theirs = rasterio.__gdal_version__, ".".join(map(str, pyogrio.__gdal_version__))
    text = f"rasterio {rasterio.__version__} with GDAL {ours}, pyogrio {pyogrio.__version__} with GDAL {theirs}"
    if ours.split(".")[0] != theirs.split(".")[0]:
        return EnvironmentCheck(
            "GeoTIFF", "problem", text, f"two major versions of GDAL in one process: {EXTRA} --upgrade"
        )
    return EnvironmentCheck("GeoTIFF", "ok", text)


def proj(environment: Mapping[str, str]) -> EnvironmentCheck:
    """Check that coordinate systems are found. PostGIS, QGIS and conda may point PROJ at their own database."""
    set_here = [name for name in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA") if environment.get(name)]
    fix = f"unset {' '.join(set_here)}" if set_here else f"{EXTRA} --force-reinstall"
    if not importlib.util.find_spec("rasterio"):
        return EnvironmentCheck("PROJ", "note", "not checked without rasterio", EXTRA)
    from pyproj import CRS as Pyproj
    from pyproj.exceptions import CRSError, DataDirError
    from rasterio.crs import CRS
    from rasterio.errors import CRSError as RasterioCRSError
    from rasterio.errors import RasterioError

    try:
        CRS.from_epsg(32632).to_wkt()
        Pyproj.from_epsg(32632).to_wkt()
    except (RasterioError, RasterioCRSError, CRSError, DataDirError) as error:
        text = f"EPSG:32632 is not found ({reason(error)}); variables set: {', '.join(set_here) or 'none'}"
        return EnvironmentCheck("PROJ", "problem", text, fix)
    if set_here:
        places = ", ".join(f"{name}={environment[name]}" for name in set_here)
        return EnvironmentCheck("PROJ", "note", f"{places} is set, probably by another program; it works", fix)
    return EnvironmentCheck("PROJ", "ok", "coordinate systems are found")


def disk(runs: Path) -> EnvironmentCheck:
    """Check free disk space for the runs."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        return EnvironmentCheck("disk", "problem", f"{place} cannot be written to", "choose another folder: runs=/path")
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.0f} GB free in {place}"
    if free < MIN_FREE_GB:
        return EnvironmentCheck(
            "disk", "problem", text, f"free {MIN_FREE_GB:.0f} GB, or choose another disk: runs=/path"
        )
    return EnvironmentCheck("disk", "ok", text)


def hub(environment: Mapping[str, str]) -> EnvironmentCheck:
    """Check that pretrained weights and tokenizers can be downloaded."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return EnvironmentCheck(
            "hub", "note", "HF_HUB_OFFLINE is set: local copies only", "unset HF_HUB_OFFLINE to download weights"
        )
    address = environment.get("HF_ENDPOINT", HUB)
    parts = urlsplit(environment.get("HTTPS_PROXY") or environment.get("https_proxy") or address)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=HUB_TIMEOUT_S).close()
    except OSError as error:
        fix = "give local copies: vision.weights=/path text.weights=/path text.tokenizer=/path"
        return EnvironmentCheck("hub", "note", f"{address} cannot be reached ({reason(error)})", fix)
    return EnvironmentCheck("hub", "ok", f"{address} can be reached")


def nltk_data() -> EnvironmentCheck:
    """Check the optional tagger for FIANet's phrase masks."""
    import nltk

    try:
        nltk.data.find(_TAGGER)
    except LookupError:
        fix = "python -m nltk.downloader averaged_perceptron_tagger_eng"
        return EnvironmentCheck("NLTK", "note", "no perceptron tagger: the suite's lexicon tags phrases", fix)
    return EnvironmentCheck("NLTK", "ok", "perceptron tagger installed")


def parser() -> EnvironmentCheck:
    """Check the optional parser for LSCM's heads of words; imports nothing of it."""
    if not importlib.util.find_spec("spacy"):
        return EnvironmentCheck("spaCy", "note", "not installed: model=lscm has no parser", PARSE_EXTRA)
    if not importlib.util.find_spec(PIPELINE):
        fix = f"python -m spacy download {PIPELINE}"
        return EnvironmentCheck("spaCy", "note", f"{PIPELINE} not installed: model=lscm has no parser", fix)
    return EnvironmentCheck("spaCy", "ok", f"spaCy {version('spacy')} with {PIPELINE} {version(PIPELINE)}")


def cjk_font() -> EnvironmentCheck:
    """Check for a font with Chinese characters."""
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.render.fonts import lettering

    found = lettering(["\u8239"], Terminal(quiet=True))
    if found.absent:
        fix = "install one, such as Debian's fonts-noto-cjk"
        return EnvironmentCheck("fonts", "note", "none with Chinese characters: figures show their code points", fix)
    return EnvironmentCheck("fonts", "ok", f"Chinese characters from {found.families[-1]}")
