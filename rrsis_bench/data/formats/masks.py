"""Target masks as the files of a dataset store them: run lengths, polygons or image files, decoded on demand."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from rrsis_bench.data.pixels import mask_files, polygons, rle
from rrsis_bench.data.pixels.rle import Rle
from rrsis_bench.errors import UserError


@dataclass(frozen=True, slots=True)
class MaskCheck:
    """The result of decoding one mask.

    Attributes:
        size: height and width; None if the mask cannot be decoded.
        area: foreground pixels.
        error: (kind, message) of a defect that makes the mask unusable, or None.
        warnings: the same for defects that do not.
        digest: of the pixels of a mask in a file of its own; None for other masks, and without foreground.
    """

    size: tuple[int, int] | None = None
    area: int = 0
    error: tuple[str, str] | None = None
    warnings: tuple[tuple[str, str], ...] = ()
    digest: bytes | None = None


class StoredMask(Protocol):
    """A mask that is decoded when it is read. Small, immutable and picklable."""

    @property
    def compressed(self) -> bool:
        """Whether run lengths are at hand without decoding pixels."""

    def read(self) -> np.ndarray:
        """Decode to bool (H, W); raises UserError for an unusable file."""

    def read_rle(self) -> Rle:
        """Return the run-length encoding; raises UserError for an unusable file."""

    def identity(self) -> bytes | Path:
        """Return bytes that determine the mask, or the file that holds it."""

    def check(self) -> MaskCheck:
        """Decode the mask and report what is wrong with it; raises nothing for an unusable file."""


@dataclass(frozen=True, slots=True)
class RleMask:
    """A compressed run-length encoding that `rle.parse` accepted."""

    height: int
    width: int
    counts: bytes
    compressed = True

    @classmethod
    def of(cls, parsed: Rle) -> RleMask:
        """Make one from the result of `rle.parse`."""
        height, width = parsed["size"]
        return cls(height, width, parsed["counts"])

    def read(self) -> np.ndarray:
        """Decode to bool (H, W)."""
        return rle.decode(self.read_rle())

    def read_rle(self) -> Rle:
        """Return the encoding."""
        return {"size": [self.height, self.width], "counts": self.counts}

    def identity(self) -> bytes:
        """Return size and counts."""
        return f"{self.height} {self.width} ".encode() + self.counts

    def check(self) -> MaskCheck:
        """Return size and area."""
        return MaskCheck((self.height, self.width), rle.area(self.read_rle()))


@dataclass(frozen=True, slots=True)
class LazyRleMask:
    """A compressed run-length encoding as a file gives it, checked when it is read.

    For datasets with so many masks that checking them takes longer than reading the files. `where` names the mask.
    """

    height: int
    width: int
    counts: bytes
    where: str
    compressed = True

    def read(self) -> np.ndarray:
        """Check and decode to bool (H, W)."""
        return rle.decode(self.read_rle())

    def read_rle(self) -> Rle:
        """Check and return the encoding."""
        try:
            return self._parsed()
        except ValueError as error:
            raise UserError(f"The mask of {self.where} cannot be read: {error}.") from None

    def identity(self) -> bytes:
        """Return size and counts."""
        return f"{self.height} {self.width} ".encode() + self.counts

    def check(self) -> MaskCheck:
        """Return size and area."""
        try:
            return MaskCheck((self.height, self.width), rle.area(self._parsed()))
        except ValueError as error:
            return MaskCheck(error=("unreadable_mask", str(error)))

    def _parsed(self) -> Rle:
        return rle.parse({"size": [self.height, self.width], "counts": self.counts})


@dataclass(frozen=True, slots=True, eq=False)
class PolygonMask:
    """The union of shapes, each the polygons (or the run lengths) of one object."""

    shapes: tuple[polygons.Shape, ...]
    size: tuple[int, int]
    compressed = True

    def read(self) -> np.ndarray:
        """Draw the shapes: bool (H, W)."""
        return rle.decode(self.read_rle())

    def read_rle(self) -> Rle:
        """Draw the shapes by COCO's rule."""
        return polygons.rasterise(self.shapes, self.size)

    def identity(self) -> bytes:
        """Return size and coordinates."""
        parts = [f"{self.size[0]} {self.size[1]}".encode()]
        for shape in self.shapes:
            parts += [shape["counts"]] if isinstance(shape, dict) else [points.tobytes() for points in shape]
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)

    def check(self) -> MaskCheck:
        """Draw every shape; warn of one that covers no pixel or is cut off at the border."""
        areas = [rle.area(polygons.rasterise([shape], self.size)) for shape in self.shapes]
        warnings = []
        if any(areas) and 0 in areas:
            warnings.append(("empty_mask", f"{areas.count(0)} of its {len(areas)} objects cover no pixel"))
        if any(polygons.crosses_border(shape, self.size) for shape in self.shapes):
            warnings.append(("polygon_cut_off", "a polygon reaches out of the image and is cut off at the border"))
        return MaskCheck(self.size, sum(areas), warnings=tuple(warnings))


@dataclass(frozen=True, slots=True)
class FileMask:
    """A mask in an image file; `above` as in `mask_files.read_mask`."""

    path: str
    above: int | None = None
    compressed = False

    def read(self) -> np.ndarray:
        """Decode the file: bool (H, W)."""
        return mask_files.read_mask(self.path, self.above)

    def read_rle(self) -> Rle:
        """Decode and encode."""
        return rle.encode(self.read())

    def identity(self) -> Path:
        """Return the file."""
        return Path(self.path)

    def check(self) -> MaskCheck:
        """Decode the file and check its grey levels."""
        try:
            level_HW = mask_files.read_levels(self.path)
        except UserError as error:
            return MaskCheck(error=("unreadable_mask", str(error)))
        size = (level_HW.shape[0], level_HW.shape[1])
        mask_HW = level_HW > (self.above or 0)
        area = int(mask_HW.sum())
        digest = blake2b(np.packbits(mask_HW).tobytes(), digest_size=16, key=str(size).encode()).digest()
        problem = mask_files.level_problem(level_HW, self.above)
        found = ("grey_levels", f"The mask {self.path} {problem}")
        if problem and self.above is not None and area:  # such as a mask that was a JPEG: `read` takes the threshold
            return MaskCheck(size, area, warnings=(found,), digest=digest)
        return MaskCheck(size, area, error=found if problem else None, digest=digest if area else None)
