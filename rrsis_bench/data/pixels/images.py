"""Decode untrusted image and mask files safely.

What happens to a file that is not a plain 8-bit RGB image:

=====================================  =================================================================================
grey, 1 bit, palette                   read as RGB: the colours that the file shows
an alpha channel (RGBA, LA, PA)        dropped; the stored colours are what models see. `check_image` says so
rotation tag (EXIF orientation)        ignored: masks are drawn on the stored pixels. `check_image` says so
16 bits or floats per channel          refused, with the command that scales it: which values become black and white
                                       is the user's choice
more than four bands, NIR              refused, with the command that chooses three of them
CMYK, Lab, HSV                         refused: without the colour profile the colours would be a guess
more than `MAX_PIXELS`                 refused from the header, before a pixel is decoded (a decompression bomb)
several pages or frames                the first one
empty, cut off, not an image           refused
another format than `IMAGE_FORMATS`    refused; of all that Pillow opens, some start other programs (EPS)
=====================================  =================================================================================
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from rich.progress import track

from rrsis_bench.console import Terminal
from rrsis_bench.data.pixels import foreign
from rrsis_bench.errors import UserError

MAX_PIXELS = 16384 * 16384 // 3
"""About 89 million: 0.25 GiB as RGB, and the size above which Pillow takes an image for a decompression bomb."""

IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000")

Decoded = TypeVar("Decoded")

_MODES = {"1", "L", "P", "RGB", "YCbCr"}
_ALPHA_MODES = {"RGBA", "RGBX", "LA", "PA", "RGBa", "La"}
_UPRIGHT = 1
_UNREADABLE = (  # what Pillow raises on damaged files
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, struct.error,
    zlib.error,
)  # fmt: skip

warnings.simplefilter("error", Image.DecompressionBombWarning)  # refused below, instead of read with a warning


class _RefusedError(Exception):
    """A file that will not be read.

    Attributes:
        kind: a short fixed name, as in the findings of a check.
        advice: what to do about it.
    """

    def __init__(self, kind: str, reason: str, advice: str):
        super().__init__(reason)
        self.kind, self.advice = kind, advice


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What decoding one image completely showed.

    Attributes:
        size: width, height in pixels; None where it cannot be read.
        sha256: of the file; empty where it cannot be read.
        kind: the defect's short name; empty where there is none.
        message: the defect, to be put after the file's name.
        quirks: (kind, message) of what is read but not as it may seem: ``alpha``, ``exif_rotation``.
    """

    size: tuple[int, int] | None = None
    sha256: str = ""
    kind: str = ""
    message: str = ""
    quirks: tuple[tuple[str, str], ...] = ()


def read_rgb(path: str | Path) -> np.ndarray:
    """Decode an image completely to uint8 (H, W, 3), RGB.

    Raises:
        UserError: the file is missing, or refused by the module's rules, with its name and what to do.
    """
    return np.array(read_image(path))


def read_image(path: str | Path, data: bytes | None = None) -> Image.Image:
    """Decode an image completely, and leave it in Pillow's RGB form; `read_rgb` copies it from there.

    Decoding is libjpeg-turbo's: it comes with Pillow's wheels, and was as fast as torchvision's decoder.

    Args:
        path: the file.
        data: its bytes, where they have been read already.

    Raises:
        UserError: as `read_rgb`.
    """
    return read_pixels(path, "image", IMAGE_FORMATS, _rgb, data)


def read_pixels(
    path: str | Path,
    what: str,
    formats: tuple[str, ...],
    pixels: Callable[[Image.Image], Decoded],
    data: bytes | None = None,
) -> Decoded:
    """Open a file by the module's rules and decode it completely.

    Args:
        path: the file.
        what: it is for a person, such as ``"image"``.
        formats: Pillow's names of those that may be opened.
        pixels: from the opened file to an array, say; a ValueError is a reason for refusal.
        data: the file's bytes, where they have been read already.

    Raises:
        UserError: the file is missing or refused, with its name and what to do.
    """
    with _named(path, what), open(path, "rb") if data is None else io.BytesIO(data) as file:
        return _decode(file, formats, pixels)


def read_bytes(path: str | Path) -> bytes:
    """An image's file as it is, for `read_image`; raises UserError where it is missing or cannot be read."""
    with _named(path, "image"):
        return Path(path).read_bytes()


@contextmanager
def _named(path: str | Path, what: str) -> Iterator[None]:
    """Turn what goes wrong with a file into a UserError with its name."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"The {what} {path} is missing.") from None
    except _RefusedError as error:
        raise UserError(f"The {what} {path} {error}. {error.advice}") from None
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read ({error.strerror or error}).") from None


def check_image(path: str | Path) -> ImageCheck:
    """Decode one image completely and say what it is, or what is wrong with it; raises nothing for a bad file."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return ImageCheck(kind="missing_image", message="is missing")
    except OSError as error:
        return ImageCheck(kind="unreadable_image", message=f"cannot be read ({error.strerror or error})")
    seen: dict[str, Any] = {}

    def note(image: Image.Image) -> None:
        seen.update(size=image.size, quirks=_quirks(image))
        _rgb(image)

    try:
        _decode(io.BytesIO(data), IMAGE_FORMATS, note)
    except _RefusedError as error:
        advice = f". {error.advice}" if error.kind == "unsupported_image" else ""
        return ImageCheck(kind=error.kind, message=f"{error}{advice}".removesuffix("."))
    return ImageCheck(sha256=hashlib.sha256(data).hexdigest(), **seen)


def check_images(paths: Iterable[Path], console: Terminal | None = None) -> dict[Path, ImageCheck]:
    """`check_image` of each path once, on all cores: Pillow and hashlib work outside the interpreter lock.

    Args:
        paths: the files.
        console: where a progress bar is shown, or None.
    """
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        checked: Iterable[ImageCheck] = pool.map(check_image, wanted)
        if console is not None:
            checked = track(checked, "decoding images", total=len(wanted), console=console, transient=True)
        return dict(zip(wanted, checked, strict=True))


def _refuse_mode(image: Image.Image) -> None:
    """Refuse what cannot be shown as 8-bit RGB without a choice."""
    file = getattr(image, "fp", None)
    deep = image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.format == "JPEG2000" and file is not None:  # Pillow would shift wide values down, to near black
        deep = deep or foreign.jpeg2000_bits(file) > 8
    if deep:
        reason = f"has more than 8 bits per channel ({image.mode})"
        raise _RefusedError("unsupported_image", reason, foreign.scaled(None))
    if image.mode not in _MODES | _ALPHA_MODES:
        raise _RefusedError("unsupported_image", f"has the colours {image.mode}", "Convert it to RGB by its profile.")


def check_mode(image: Image.Image) -> None:
    """UserError for an opened image that the module's rules refuse by its colours or bits."""
    try:
        _refuse_mode(image)
    except _RefusedError as error:
        raise UserError(f"The image {error}. {error.advice}") from None


def _decode(file: IO[bytes], formats: tuple[str, ...], pixels: Callable[[Image.Image], Decoded]) -> Decoded:
    """Decode an open file; raises _RefusedError for whatever will not be read."""
    again = "Fetch the file again."
    if not file.read(1):
        raise _RefusedError("empty_image", "has 0 bytes", again)
    file.seek(0)
    try:
        # Pillow's JPEG reader opens MPO, which has no reader of its own.
        with Image.open(file, formats=[name for name in formats if name != "MPO"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            _refuse_mode(image)
            _refuse_missing_strips(image)
            _refuse_missing_bytes(image, file)
            return pixels(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"is larger than the {MAX_PIXELS:,} pixels that are read ({error})"
        raise _RefusedError("oversize_image", reason, "Cut or shrink it.") from None
    except UnidentifiedImageError:
        found = foreign.describe_tiff(file)
        if found is not None:
            raise _RefusedError("unsupported_image", *found) from None
        reason = f"is not an image, lacks even its header, or is none of {', '.join(formats)}"
        raise _RefusedError("truncated_image", reason, again) from None
    except _UNREADABLE as error:
        raise _RefusedError("truncated_image", f"cannot be decoded ({error})", again) from None


def _refuse_missing_strips(image: Image.Image) -> None:
    """Refuse a TIFF whose strips or tiles end before its last row: Pillow would leave the rest black."""
    parts = [tile[1] for tile in getattr(image, "tile", ())] if image.format == "TIFF" else []
    if parts and max(extents[3] for extents in parts) < image.height:
        raise OSError(f"its strips end before the last of its {image.height:,} rows")


def _refuse_missing_bytes(image: Image.Image, file: IO[bytes]) -> None:
    """Refuse uncompressed pixels that the file is too short for, before Pillow makes room for them."""
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    for codec, extents, offset, *arguments in getattr(image, "tile", ()):
        raw = str(arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0])
        bits = 8 * len(raw) if raw in ("L", "P", "RGB", "BGR", "RGBX", "BGRX", "RGBA", "BGRA") else 1
        needed = (extents[2] - extents[0]) * (extents[3] - extents[1]) * bits // 8
        if codec == "raw" and offset + needed > size:
            raise OSError(f"its {size:,} bytes are too few for {image.width:,} x {image.height:,} pixels")


def _rgb(image: Image.Image) -> Image.Image:
    image.load()  # while the file is open
    return image if image.mode == "RGB" else image.convert("RGB")


def _quirks(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """What is read, but not as it may seem."""
    found = []
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        found.append(("alpha", "has an alpha channel, which is dropped"))
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except _UNREADABLE:  # the pixels do not depend on the tags
        turned = _UPRIGHT
    if turned != _UPRIGHT:
        found.append(("exif_rotation", "has a rotation tag, which is ignored: masks are drawn on the stored pixels"))
    return tuple(found)


def resize_bilinear(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to uint8 (3, side, side); see `resize_image`."""
    return resize_image(Image.fromarray(image_HWC), side)


def resize_image(image: Image.Image, side: int) -> np.ndarray:
    """Resize an RGB image to uint8 (3, side, side): Pillow's bilinear, antialiased, aspect ratio not kept.

    The rule of the LAVT family: torchvision's ``F.resize`` on a PIL image calls the same function. torch's
    ``interpolate(antialias=True)`` is three times as fast on uint8, but some of its pixels are a grey level off.
    """
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    view_CSS = np.empty((3, side, side), dtype=np.uint8)
    for channel, plane in enumerate(image.split()):
        view_CSS[channel] = np.asarray(plane)
    return view_CSS
