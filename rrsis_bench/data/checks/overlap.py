"""Count the samples of val and test whose image is also a training image.

Two images are the same if they have the same pixels after decoding, so a copy in another file format is found too.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rrsis_bench.data.checks.fingerprint import read_cache
from rrsis_bench.data.formats.index import SPLITS, DatasetIndex
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError
from rrsis_bench.files import write_text


def train_overlap(index: DatasetIndex, cache_dir: Path | None = None) -> dict[str, int]:
    """Return split -> number of samples whose image has the pixels of a training image; for every split but train.

    Args:
        index: the dataset.
        cache_dir: keeps the hashes of pixels between runs, by path, size and modification time; None: no cache.

    Raises:
        UserError: an image cannot be read.
    """
    index.require_readable(SPLITS)
    images = {split: [Path(row.image) for row in index.rows[split]] for split in SPLITS}
    hashes = _hash_pixels(sorted({path for paths in images.values() for path in paths}), cache_dir)
    trained = {hashes[path] for path in images["train"]}
    return {
        split: sum(hashes[path] in trained for path in paths) for split, paths in images.items() if split != "train"
    }


def _hash_pixels(paths: list[Path], cache_dir: Path | None) -> dict[Path, str]:
    """Return the sha256 of each image's size and pixels."""
    store = cache_dir / "pixel_hashes.json" if cache_dir is not None else None
    known = read_cache(store)

    def one(path: Path) -> list[int | str]:
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
        entry = known.get(str(path.absolute()))
        if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            pixels_HW3 = read_rgb(path)
            digest = hashlib.sha256(str(pixels_HW3.shape).encode() + pixels_HW3.tobytes())
            entry = [stat.st_size, stat.st_mtime_ns, digest.hexdigest()]
        return entry

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = dict(zip(paths, pool.map(one, paths), strict=True))
    entries = {str(path.absolute()): entry for path, entry in found.items()}
    if store is not None and any(known.get(path) != entry for path, entry in entries.items()):
        write_text(store, json.dumps(known | entries))
    return {path: str(entry[2]) for path, entry in found.items()}
