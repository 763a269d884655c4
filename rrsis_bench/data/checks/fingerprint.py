"""A dataset's fingerprint: two records are comparable only where it is the same."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from rrsis_bench.data.formats import SPLITS, open_split
from rrsis_bench.errors import UserError


@dataclass(frozen=True, slots=True)
class FingerprintRow:
    """What identifies one sample.

    Attributes:
        sample_id: the sample's id.
        expression: its text.
        category: its category or None.
        mask: bytes that determine the mask, such as its size and run-length counts; or the file that holds it, whose
            hash is kept between runs like the picture's.
        image: the picture file.
    """

    sample_id: str
    expression: str
    category: str | None
    mask: bytes | Path
    image: Path


class Fingerprinted(Protocol):
    """A dataset that can list what identifies its samples; every format's reader does."""

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """One row per sample."""


def fingerprint(fmt: str, root: Path, cache_dir: Path | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Sha256 (hex) over ids, expressions, categories, masks, and the picture files' sizes and sha256, over all splits.

    The order of the samples within their files does not matter; where the dataset lies and when its files were written
    do not either.

    Args:
        fmt: on-disk format, such as ``"rrsisd"``.
        root: the dataset's folder.
        cache_dir: where the pictures' hashes are kept between runs, by path, size and modification time; None: nowhere.
        options: ``data.options``; what they leave out or merge makes other samples, and so another fingerprint.

    Raises:
        UserError: the dataset cannot be read.
    """
    datasets = [(split, cast(Fingerprinted, open_split(fmt, root, split, options))) for split in SPLITS]
    rows = [(split, row) for split, dataset in datasets for row in dataset.fingerprint_rows()]
    files = {row.image for _, row in rows} | {row.mask for _, row in rows if isinstance(row.mask, Path)}
    hashes = hash_files(files, cache_dir)
    total = hashlib.sha256(f"{fmt} 1\n".encode())
    for split, row in sorted(rows, key=lambda pair: (pair[0], pair[1].sample_id)):
        size, digest = hashes[row.image]
        mask = hashes[row.mask][1] if isinstance(row.mask, Path) else hashlib.sha256(row.mask).hexdigest()
        fields = [split, row.sample_id, row.expression, row.category, mask, size, digest]
        total.update(json.dumps(fields, ensure_ascii=True).encode() + b"\n")
    return total.hexdigest()


def hash_files(paths: Iterable[Path], cache_dir: Path | None = None) -> dict[Path, tuple[int, str]]:
    """Size and sha256 of each file, read on all cores; unchanged files come from the cache.

    Raises:
        UserError: a file cannot be read.
    """
    wanted = sorted(set(paths))
    store = cache_dir / "image_hashes.json" if cache_dir is not None else None
    known = _read_cache(store)

    def one(path: Path) -> tuple[str, list]:
        try:
            stat = path.stat()
            entry = known.get(str(path.absolute()))
            if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                with open(path, "rb") as file:
                    entry = [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
            return str(path.absolute()), entry
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = dict(pool.map(one, wanted))
    if store is not None and any(known.get(path) != entry for path, entry in found.items()):
        _write_cache(store, known | found)
    return {path: (found[str(path.absolute())][0], found[str(path.absolute())][2]) for path in wanted}


def _read_cache(store: Path | None) -> dict[str, list]:
    """The cached entries; a cache that is absent or damaged is only a slower run, and is written anew."""
    if store is None:
        return {}
    try:
        entries = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {path: entry for path, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}


def _write_cache(store: Path, entries: dict[str, list]) -> None:
    """Replace the cache in one step, so that a run beside this one never reads half of it."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=store.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        json.dump(entries, file)
    os.replace(file.name, store)
