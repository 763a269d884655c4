"""What of a machine stands in the way of the suite: one line each, with the cure."""

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

from rrsis_bench.predict.sources.raster import EXTRA, PACKAGES

MIN_FREE_GB = 10.0
"""Below this, training at paper size may fail: a checkpoint with its optimiser takes about 3 GB, and three are kept."""

HUB_TIMEOUT_S = 3.0
HUB = "https://huggingface.co"
INSTALL = "pip install -c constraints.txt -e ."
_TAGGER = "taggers/averaged_perceptron_tagger_eng/"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: ``ok``; ``note``: something optional is missing; ``problem``: something will fail.
        text: what was found.
        cure: what to do; empty where nothing is to be done.
    """

    name: str
    state: str
    text: str
    cure: str = ""


def examine(root: Path) -> list[Finding]:
    """All findings.

    Args:
        root: where runs are written, whose disk is looked at.
    """
    looks: dict[str, Callable[[], Finding]] = {
        "Python": python,
        "packages": packages,
        "torch": torch_and_device,
        "GeoTIFF": gdal,
        "PROJ": lambda: proj(os.environ),
        "disk": lambda: disk(root),
        "hub": lambda: hub(os.environ),
        "NLTK": nltk_data,
        "fonts": cjk_font,
    }
    return [_survived(name, look) for name, look in looks.items()]


def _survived(name: str, look: Callable[[], Finding]) -> Finding:
    """What a look finds; a package without which it cannot look is a finding too."""
    try:
        return look()
    except ImportError as error:
        return Finding(name, "problem", f"cannot be looked at: {str(error).splitlines()[0]}", INSTALL)


def python() -> Finding:
    """The interpreter."""
    return Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.executable})")


def packages() -> Finding:
    """Whether every dependency is installed in a version that the suite accepts."""
    from packaging.requirements import Requirement

    wrong, count = [], 0
    try:
        requires = distribution("rrsis-bench").requires or []
    except PackageNotFoundError:
        return Finding("packages", "problem", "rrsis-bench itself is not installed: versions are not known", INSTALL)
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
        return Finding("packages", "problem", "; ".join(wrong), INSTALL)
    return Finding("packages", "ok", f"{count} as needed")


def torch_and_device() -> Finding:
    """Torch, its device, and whether torchvision's operators fit it."""
    import torch

    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        cure = "install both from one source: pip install -c constraints.txt torch torchvision"
        return Finding("torch", "problem", f"{torch.__version__}, but torchvision does not fit it ({reason})", cure)
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return Finding("torch", "ok", f"{torch.__version__}, {device.name}, {device.total_memory / 2**30:.0f} GiB")
    text = f"{torch.__version__}, no GPU: {torch.get_num_threads()} CPU threads"
    if shutil.which("nvidia-smi"):
        cure = "the driver may be older than torch's CUDA: update it, or install a torch built for it"
        return Finding("torch", "problem", f"{text}, though this machine has an NVIDIA driver", cure)
    return Finding("torch", "ok", text)


def gdal() -> Finding:
    """The libraries behind GeoTIFFs and polygons. Two copies of GDAL in one process are usual and mostly harmless."""
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        return Finding("GeoTIFF", "note", f"{', '.join(missing)} not installed: PNG and JPEG only", EXTRA)
    try:
        import pyogrio
        import rasterio
    except ImportError as error:
        return Finding("GeoTIFF", "problem", f"cannot be loaded ({error})", f"{EXTRA} --force-reinstall")
    ours, theirs = rasterio.__gdal_version__, ".".join(map(str, pyogrio.__gdal_version__))
    text = f"rasterio {rasterio.__version__} with GDAL {ours}, pyogrio {pyogrio.__version__} with GDAL {theirs}"
    if ours.split(".")[0] != theirs.split(".")[0]:
        return Finding("GeoTIFF", "problem", text, f"two generations of GDAL in one process: {EXTRA} --upgrade")
    return Finding("GeoTIFF", "ok", text)


def proj(environment: Mapping[str, str]) -> Finding:
    """Whether coordinate systems can be looked up; PostGIS, QGIS and conda like to point PROJ at their own database."""
    set_here = [name for name in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA") if environment.get(name)]
    cure = f"unset {' '.join(set_here)}" if set_here else f"{EXTRA} --force-reinstall"
    if not importlib.util.find_spec("rasterio"):
        return Finding("PROJ", "note", "not looked at without rasterio", EXTRA)
    from pyproj import CRS as Pyproj
    from pyproj.exceptions import CRSError, DataDirError
    from rasterio.crs import CRS
    from rasterio.errors import CRSError as RasterioCRSError
    from rasterio.errors import RasterioError

    try:
        CRS.from_epsg(32632).to_wkt()
        Pyproj.from_epsg(32632).to_wkt()
    except (RasterioError, RasterioCRSError, CRSError, DataDirError) as error:
        reason = str(error).strip().splitlines()[0]
        return Finding(
            "PROJ", "problem", f"EPSG:32632 is not found ({reason}); set: {', '.join(set_here) or '-'}", cure
        )
    if set_here:
        places = ", ".join(f"{name}={environment[name]}" for name in set_here)
        return Finding("PROJ", "note", f"{places} points another program's data at this one; it works", cure)
    return Finding("PROJ", "ok", "coordinate systems are found")


def disk(root: Path) -> Finding:
    """Free space where runs are written."""
    place = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} cannot be written to", "choose another folder: runs.root=/path")
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.0f} GB free in {place}"
    if free < MIN_FREE_GB:
        return Finding("disk", "problem", text, f"free {MIN_FREE_GB:.0f} GB, or choose another disk: runs.root=/path")
    return Finding("disk", "ok", text)


def hub(environment: Mapping[str, str]) -> Finding:
    """Whether pretrained weights and tokenizers can be fetched."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding(
            "hub", "note", "HF_HUB_OFFLINE is set: local copies only", "unset HF_HUB_OFFLINE to fetch weights"
        )
    address = environment.get("HF_ENDPOINT", HUB)
    parts = urlsplit(environment.get("HTTPS_PROXY") or environment.get("https_proxy") or address)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=HUB_TIMEOUT_S).close()
    except OSError as error:
        cure = "give local copies: size.swin.weights=/path size.bert.weights=/path size.tokenizer=/path"
        return Finding("hub", "note", f"{address} cannot be reached ({error.strerror or error})", cure)
    return Finding("hub", "ok", f"{address} can be reached")


def nltk_data() -> Finding:
    """The optional tagger behind FIANet's phrase masks."""
    import nltk

    try:
        nltk.data.find(_TAGGER)
    except LookupError:
        cure = "python -m nltk.downloader averaged_perceptron_tagger_eng"
        return Finding("NLTK", "note", "no perceptron tagger: phrases are tagged by the suite's lexicon", cure)
    return Finding("NLTK", "ok", "perceptron tagger installed")


def cjk_font() -> Finding:
    """A font for Chinese expressions in pictures."""
    from rich.console import Console

    from rrsis_bench.results.render.fonts import lettering

    found = lettering(["\u8239"], Console(quiet=True))
    if found.absent:
        cure = "install one, such as Debian's fonts-noto-cjk"
        return Finding("fonts", "note", "none with Chinese characters: figures show their numbers", cure)
    return Finding("fonts", "ok", f"Chinese by {found.families[-1]}")
