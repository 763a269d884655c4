"""A dataset's fingerprint: records are comparable only if it is equal."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rrsis_bench.codec import parse_json
from rrsis_bench.data.formats.index import SPLITS, DatasetIndex, Row
from rrsis_bench.data.pixels import rle
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file, write_text

_Entry = list[int | str]  # size, modification time in nanoseconds, sha256


def fingerprint(index: DatasetIndex, cache_dir: Path | None = None) -> str:
    """Return the sha256 (hex) over ids, expressions, categories, masks and images of all splits.

    The order of the samples within their files, the dataset's folder and the files' dates do not change it. The options
    that the index was read with do, because they make other samples.

    Args:
        index: the dataset.
        cache_dir: keeps the hashes of image files between runs, by path, size and modification time; None: no cache.

    Raises:
        UserError: the index files have errors, or a file cannot be read.
    """
    index.require_readable(SPLITS)
    files = {Path(row.image) for row in index.all_rows()}
    if not index.masks_by_pixels:
        files |= {identity for row in index.all_rows() if isinstance(identity := row.mask.identity(), Path)}
    hashes = hash_files(files, cache_dir)
    total = hashlib.sha256(f"{index.fmt} 1\n".encode())
    for split in sorted(SPLITS):
        for row in sorted(index.rows[split], key=lambda row: row.sample_id):
            identity = _pixels(row) if index.masks_by_pixels else row.mask.identity()
            mask = hashes[identity][1] if isinstance(identity, Path) else hashlib.sha256(identity).hexdigest()
            size, digest = hashes[Path(row.image)]
            fields = [split, row.sample_id, row.expression, row.category, mask, size, digest]
            total.update(json.dumps(fields, ensure_ascii=True).encode() + b"\n")
    return total.hexdigest()


def _pixels(row: Row) -> bytes:
    """Return a mask's size and spans: equal for every way to write the same mask."""
    encoded = row.mask.read_rle()
    spans = rle.spans_of_runs(rle.check_rle(encoded))
    head = f"{encoded['size'][0]} {encoded['size'][1]} ".encode()
    return head + spans.start_R.astype("<i8").tobytes() + spans.stop_R.astype("<i8").tobytes()


def hash_files(paths: Iterable[Path], cache_dir: Path | None = None) -> dict[Path, tuple[int, str]]:
    """Return size and sha256 of each file, read on all cores; unchanged files come from the cache.

    Raises:
        UserError: a file cannot be read.
    """
    wanted = sorted(set(paths))
    store = cache_dir / "image_hashes.json" if cache_dir is not None else None
    known = read_cache(store)

    def one(path: Path) -> _Entry:
        try:
            stat = path.stat()
            entry = known.get(str(path.absolute()))
            if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                entry = [stat.st_size, stat.st_mtime_ns, sha256_file(path)]
            return entry
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = dict(zip(wanted, pool.map(one, wanted), strict=True))
    entries = {str(path.absolute()): entry for path, entry in found.items()}
    if store is not None and any(known.get(path) != entry for path, entry in entries.items()):
        write_text(store, json.dumps(known | entries))
    return {path: (int(entry[0]), str(entry[2])) for path, entry in found.items()}


def read_cache(store: Path | None) -> dict[str, _Entry]:
    """Return the cached entries; none if the cache is absent or damaged, which only makes the run slower."""
    try:
        entries = parse_json(store.read_text(encoding="utf-8")) if store is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {path: entry for path, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}
