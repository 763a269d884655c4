"""What a raster is that cannot be shown as 8-bit RGB, and the command that makes an image of it.

Values of 16 bits or floats are never scaled here: which of them become black and white is the user's choice, and it
must be the same for all images of a dataset.
"""

from __future__ import annotations

import io
import re
import struct
from typing import IO

from PIL import TiffImagePlugin

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KINDS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "ZSTD", 50001: "WebP", 50002: "JPEG XL"}
_RGB = 2
_HEAD = 65_536


def scaled(bands: tuple[int, ...] | None) -> str:
    """Return the advice for values that are not 8-bit integers; `bands` become red, green and blue."""
    chosen = "".join(f"-b {band} " for band in bands or ())
    return (
        f"Make an 8-bit image of it: gdal_translate -ot Byte -scale LO HI 0 255 {chosen}IN OUT, with the values LO and "
        "HI that become black and white, the same for all images."
    )


def describe_tiff(file: IO[bytes]) -> tuple[str, str] | None:
    """Return what a TIFF is, to be put behind its name, and what to do.

    None for another file, a damaged one, and one that Pillow reads.
    """
    try:
        file.seek(0)
        head = file.read(8)
        if not head.startswith(_TIFF):
            return None
        if b"+" in head[2:4]:  # BigTIFF
            head += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        if _end(tags) > file.seek(0, io.SEEK_END):
            return None
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
        samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
        kind = _KINDS.get(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0], "values of an unknown kind")
        compression = int(tags.get(TiffImagePlugin.COMPRESSION, 1))
        bands = _colours(tags, samples)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return None
    what = f"is a TIFF of {samples} band{'s' * (samples > 1)} of {bits}-bit {kind}"
    marked = "" if bands is None else f" Its bands {', '.join(map(str, bands))} are marked as red, green and blue."
    if samples >= 3 and bands is None:
        marked, bands = " No band is marked as red, green or blue: choose the three.", (1, 2, 3)
    if bits != 8 or kind != _KINDS[1]:
        return what, scaled(bands if samples >= 3 else None) + marked
    if samples not in (1, 3):
        chosen = "".join(f"-b {band} " for band in bands or (1,))
        return what, f"Choose its bands: gdal_translate {chosen}IN OUT.{marked}"
    if compression in _COMPRESSIONS:
        what += f", compressed as {_COMPRESSIONS[compression]}"
        return what, "Write it without that compression: gdal_translate -co COMPRESS=DEFLATE IN OUT."
    return None


def jpeg2000_bits(file: IO[bytes]) -> int:
    """Return the most bits of a component of a JPEG 2000 file; 8 if its header does not say. Keeps the position."""
    place = file.tell()
    file.seek(0)
    data = file.read(_HEAD)
    file.seek(place)
    try:
        if data.startswith(b"\xff\x4f\xff\x51"):  # a bare codestream: three bytes per component
            (count,) = struct.unpack_from(">H", data, 40)
            depths = data[42 : 42 + 3 * count : 3]
        else:
            start = data.index(b"ihdr") + 4
            depths = data[start + 10 : start + 11]
            if depths == b"\xff":  # a box of its own has one byte per component
                (count,) = struct.unpack_from(">H", data, start + 8)
                start = data.index(b"bpcc") + 4
                depths = data[start : start + count]
        return max(depth % 128 + 1 for depth in depths)
    except (ValueError, struct.error):
        return 8


def _end(tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Return where the last strip or tile ends, in bytes."""
    if TiffImagePlugin.TILEOFFSETS in tags:
        starts, lengths = tags[TiffImagePlugin.TILEOFFSETS], tags[TiffImagePlugin.TILEBYTECOUNTS]
    else:
        starts, lengths = tags[TiffImagePlugin.STRIPOFFSETS], tags[TiffImagePlugin.STRIPBYTECOUNTS]
    return max(int(start) + int(length) for start, length in zip(starts, lengths, strict=True))


def _colours(tags: TiffImagePlugin.ImageFileDirectory_v2, samples: int) -> tuple[int, ...] | None:
    """Return the bands that are red, green and blue, from 1; None if the file does not say."""
    text = str(tags.get(42112, ""))  # GDAL's metadata
    found = {
        colour.lower(): int(sample) + 1
        for sample, colour in re.findall(r'name="COLORINTERP" sample="(\d{1,4})"[^>]*>(Red|Green|Blue)<', text)
    }
    if len(found) == 3 and max(found.values()) <= samples:
        return found["red"], found["green"], found["blue"]
    return (1, 2, 3) if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _RGB and samples >= 3 else None
