"""Find images that two datasets, or two splits of one, share: equal files, equal pixels, and images that look alike.

Images look alike if their perceptual hashes (Zauner, 2010: which low frequencies of the grey image exceed the median)
differ in at most `THRESHOLD` of `BITS` bits. On 346 crops of real aerial images, an image that was saved again (JPEG of
quality 50), halved, or made 15% brighter differed from itself in at most 22 bits, and different images in about 100 or
more. Other crops of one place are not found: cutting 2% from two sides changes up to 62 bits.
"""

# I = images, J = images of the other split, K = side of the hash, P = side of the hashed image, W = words of a hash

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from rich.table import Table
from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats.index import SPLITS, DatasetIndex
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file

SIDE = 16
BITS = SIDE * SIDE
THRESHOLD = 25
"""Bits of `BITS` in which two images may differ and still look alike."""

HOW = {"bytes": "equal files", "pixels": "equal pixels", "alike": f"look alike (at most {THRESHOLD} of {BITS} bits)"}
"""How an image is shared, strongest first."""

_BLOCK = 1 << 21  # words compared at a time: 16 MB


@dataclass(frozen=True, slots=True)
class ImageKey:
    """What identifies an image.

    Attributes:
        file: sha256 of the file.
        pixels: sha256 of its size and pixels, decoded to RGB.
        look: the perceptual hash, `BITS` bits packed into bytes.
    """

    file: str
    pixels: str
    look: bytes


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image of one split, and the most similar image of another split.

    Attributes:
        split: of the first dataset.
        other_split: of the other dataset.
        image: file of the first.
        other: file of the other.
        how: a key of `HOW`.
        bits: in which the perceptual hashes differ.
        samples: of the first split that show the image.
    """

    split: str
    other_split: str
    image: Path
    other: Path
    how: str
    bits: int
    samples: int


def look(pixels_HW3: np.ndarray) -> bytes:
    """Return the perceptual hash of a uint8 (H, W, 3) image."""
    side = 4 * SIDE
    grey = Image.fromarray(pixels_HW3).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    cosines_PP = _cosines(side)
    low_KK = (cosines_PP @ np.asarray(grey, dtype=np.float64) @ cosines_PP.T)[:SIDE, :SIDE]
    return np.packbits(low_KK > np.median(low_KK)).tobytes()


@cache
def _cosines(side: int) -> np.ndarray:
    """Return the matrix of the discrete cosine transform (DCT-II), not normalised."""
    k = np.arange(side)
    return np.cos(np.pi * (2 * k[None, :] + 1) * k[:, None] / (2 * side))


def key_of(path: Path) -> ImageKey:
    """Read and hash one image; UserError if it cannot be read."""
    try:
        file = sha256_file(path)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    pixels_HW3 = read_rgb(path)
    digest = hashlib.sha256(str(pixels_HW3.shape).encode() + pixels_HW3.tobytes())
    return ImageKey(file, digest.hexdigest(), look(pixels_HW3))


def shared_images(index: DatasetIndex, other: DatasetIndex, console: Terminal | None = None) -> list[SharedImage]:
    """Compare every split of a dataset with every split of another one, or with its own other splits.

    Args:
        index: the dataset.
        other: the other one; the same folder compares val with train, and test with both.
        console: shows a progress bar; None: no bar.

    Returns:
        Every image of `index` that a split of `other` has too, once per such split, with the closest image there.

    Raises:
        UserError: the index files of a dataset have errors, or an image cannot be read.
    """
    images = []
    for dataset in (index, other):
        dataset.require_readable(SPLITS)
        images.append({split: Counter(Path(row.image) for row in dataset.rows[split]) for split in SPLITS})
    keys = _keys(sorted({path for splits in images for rows in splits.values() for path in rows}), console)
    itself = index.root.resolve() == other.root.resolve()
    found = []
    for split, other_split in product(SPLITS, SPLITS):
        if itself and SPLITS.index(split) <= SPLITS.index(other_split):
            continue
        counts, there = images[0][split], sorted(images[1][other_split])
        for path, match, how, bits in _matches(sorted(counts), there, keys):
            found.append(SharedImage(split, other_split, path, match, how, bits, counts[path]))
    return found


def _keys(paths: Sequence[Path], console: Terminal | None) -> dict[Path, ImageKey]:
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = pool.map(key_of, paths)
        shown = track(found, "hashing images", len(paths), console=console, transient=True, disable=console is None)
        return dict(zip(paths, shown, strict=True))


def _matches(
    paths: Sequence[Path], others: Sequence[Path], keys: dict[Path, ImageKey]
) -> Iterator[tuple[Path, Path, str, int]]:
    """Yield (path, closest other, how, bits) for each path that has one."""
    by_file = {keys[path].file: path for path in reversed(others)}
    by_pixels = {keys[path].pixels: path for path in reversed(others)}
    for path, (nearest, bits) in zip(paths, _nearest([keys[p].look for p in paths], [keys[p].look for p in others]),
                                     strict=True):  # fmt: skip
        if keys[path].file in by_file:
            yield path, by_file[keys[path].file], "bytes", 0
        elif keys[path].pixels in by_pixels:
            yield path, by_pixels[keys[path].pixels], "pixels", 0
        elif bits <= THRESHOLD:
            yield path, others[nearest], "alike", bits


def _nearest(looks: Sequence[bytes], others: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield place and distance of the closest of `others` for each hash; distance `BITS` + 1 if there are none."""
    if not others:
        yield from ((0, BITS + 1) for _ in looks)
        return
    words_IW, words_JW = (_words(hashes) for hashes in (looks, others))
    step = max(1, _BLOCK // words_JW.size)
    for start in range(0, len(looks), step):
        bits_IJ = np.bitwise_count(words_IW[start : start + step, None] ^ words_JW[None]).sum(-1, dtype=np.int64)
        places_I = bits_IJ.argmin(1)
        yield from ((int(place), int(row_J[place])) for place, row_J in zip(places_I, bits_IJ, strict=True))


def _words(hashes: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(len(hashes), BITS // 64)


def show(
    found: Iterable[SharedImage], index: DatasetIndex, other: DatasetIndex, console: Terminal, *, most: int = 20
) -> None:
    """Print how many images the splits share, and the first `most` pairs of each kind."""
    pairs = list(found)
    table = Table(title=f"images of {index.root} that {other.root} has too", title_justify="left")
    for name in ("split", "other split"):
        table.add_column(name)
    for name in ("images", *HOW.values(), "samples that show them"):
        table.add_column(name, justify="right")
    itself = index.root.resolve() == other.root.resolve()
    for split, other_split in product(SPLITS, SPLITS):
        if itself and SPLITS.index(split) <= SPLITS.index(other_split):
            continue
        own = [pair for pair in pairs if (pair.split, pair.other_split) == (split, other_split)]
        images = len({row.image for row in index.rows[split]})
        kinds = (sum(pair.how == how for pair in own) for how in HOW)
        samples, total = sum(pair.samples for pair in own), len(index.rows[split])
        share = f"{samples:,} of {total:,}" + (f" ({samples / total:.1%})" if total else "")
        table.add_row(split, other_split, f"{images:,}", *(f"{n:,}" for n in kinds), share)
    console.print(table)
    for how, words in HOW.items():
        own = [pair for pair in pairs if pair.how == how]
        for pair in own[:most]:
            bits = f", {pair.bits} bits" if how == "alike" else ""
            line = f"{words.partition(' (')[0]}{bits}: {pair.split} {pair.image} = {pair.other_split} {pair.other}"
            console.print(Text(line), soft_wrap=True)
        if len(own) > most:
            console.print(f"... and {len(own) - most:,} more", highlight=False)
