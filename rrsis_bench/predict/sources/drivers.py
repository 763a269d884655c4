"""Which formats GDAL may open, and what a virtual raster may refer to.

GDAL recognises a format by its content. A file with the name of an image may be a request to a web server, or the text
of a virtual raster that shows the bytes of any file of the machine.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from rrsis_bench.errors import UserError

DRIVERS = (
    "GTiff", "JPEG", "PNG", "JP2OpenJPEG", "HFA", "ENVI", "EHdr", "AAIGrid", "NITF", "PCIDSK", "RRASTER", "BMP", "GIF",
    "WEBP",
)  # fmt: skip
"""Formats of one local file, or of one with side files."""

_OF_SUFFIX = {
    ".vrt": "VRT", ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".jp2": "JP2OpenJPEG", ".img": "HFA",
    ".asc": "AAIGrid", ".ntf": "NITF", ".pix": "PCIDSK", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP",
}  # fmt: skip

SUFFIXES = (".tif", ".tiff", *(suffix for suffix in _OF_SUFFIX if suffix not in (".asc", ".gif")))
"""Suffixes of the rasters that a folder is searched for."""

ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no file over the network
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
"""GDAL's settings while a raster of a user is open."""

_VRT_BYTES = 64 * 2**20
_HEAD_BYTES = 65_536


def open_local(path: Path) -> Any:
    """Open a raster with the allowed drivers, the one of its suffix first; a virtual raster only if it is named so.

    Raises:
        UserError: a virtual raster that refers to the network, to a file outside its folder, or to another format.
        RasterioIOError: no driver opens the file. It has the words of the suffix's driver.
    """
    import rasterio

    suffix = path.suffix.lower()
    if suffix == ".vrt":
        _check_virtual(path)
    own = _OF_SUFFIX.get(suffix, DRIVERS[0])
    first: rasterio.errors.RasterioIOError | None = None
    for driver in (own, *(name for name in DRIVERS if name != own)):
        try:
            return rasterio.open(path, driver=driver)
        except rasterio.errors.RasterioIOError as error:
            first = first or error
    assert first is not None
    raise first


def refuse_virtual_vectors(path: Path) -> None:
    """Raise UserError if a file of polygons is a VRT or a web service, which refer to addresses and other files.

    An archive is refused, too: GDAL opens it, with whatever is in it and however large that is.
    """
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES).lower()
    if start.startswith((b"pk", b"\x1f\x8b", b"bzh", b"7z\xbc\xaf")) or start[257:262] == b"ustar":
        raise UserError(f"{path} is an archive. Unpack it, and give the file of polygons in it.")
    if path.suffix.lower() == ".vrt" or any(mark in start for mark in (b"<ogrvrt", b"<ogrwfs", b"<vrtdataset")):
        raise UserError(f"{path} refers to other files or addresses. Export its polygons to a GeoPackage: ogr2ogr.")


def _check_virtual(path: Path) -> None:
    import rasterio

    try:
        if path.stat().st_size > _VRT_BYTES:
            raise UserError(f"{path} is larger than 64 MB, which no virtual raster is. Check the file.")
        text = path.read_text(encoding="utf-8", errors="replace")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UserError(f"{path} declares entities, which a virtual raster does not need. Write it again.")
        root = ElementTree.fromstring(text)  # noqa: S314 - entities are refused above
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no virtual raster: {error}.") from error
    folder = path.parent.resolve()
    for element in root.iter():
        name = element.tag.lower()
        if not name.endswith(("filename", "dataset")) or len(element):
            continue
        named = (element.text or "").strip()
        relative = element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"
        source = Path(named)
        if not named or re.search(r"^\s*<|^/vsi|://|^[A-Za-z][A-Za-z0-9_]+:(?![\\/])", named):
            raise UserError(f"{path} refers to '{named[:80]}'. A virtual raster may only refer to image files.")
        target = (folder / source if relative or not source.is_absolute() else source).resolve()
        if not target.is_relative_to(folder):
            raise UserError(
                f"{path} refers to {named}, outside its own folder. Move both together, or make a GeoTIFF of it: "
                f"gdal_translate {path.name} {path.stem}.tif"
            )
        try:
            open_local(target).close()
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{path} refers to {named}, which is no image: {error}.") from error
