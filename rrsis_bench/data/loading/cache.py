"""Resized views on disk (``data.cache``): images are decoded and resized once, not in every epoch.

An entry is named by the sha256 of the image file and the view's side. Runs that need the same side of the same image
share it, whatever their models and wherever the dataset is stored. Another side, a changed image, or another version of
Pillow or its JPEG library is a miss. On disk::

    <folder>/image_hashes.json                    sha256 of each image, by path, size and modification time
    <folder>/views-1-pillow13.0.0-jpeg3.2.0/
        0f/0f3a...-480.view                       3 * 480 * 480 bytes, then their CRC-32 (4 bytes, little endian)

The bytes are not compressed, because decoding a lossless format takes longer than the cache saves. A view of 480 takes
0.7 MB; views of 384 and 768 together take 2.2 MB.

Any number of processes may use one folder. An entry is written under another name and renamed, so a reader finds a
whole entry or none. An entry of a wrong length or checksum counts as a miss and is written again. The folder may be
deleted at any time.

A full cache (``data.cache_gb``) adds no entries and evicts none: every epoch reads all images, so an evicted entry
would be needed again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import features

from rrsis_bench.data.checks.fingerprint import hash_files
from rrsis_bench.errors import UserError, reason

SUFFIX = ".view"
_CRC_BYTES = 4
_STEPS = 16  # the files are counted again after a 16th of what was left has been added
_STALE_S = 3600.0  # a temporary file of that age was left by a killed process


class ViewCache:
    """A folder of resized views; picklable to loader workers.

    Args:
        folder: created if it is missing; runs may share it at the same time.
        limit: bound of all entries together, in bytes. Each process counts the files from time to time and adds its own
            entries in between, so each process that fills the folder may exceed the bound by at most a 16th.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, limit: int):
        self.folder = Path(folder).absolute()
        jpeg = features.version("libjpeg_turbo") or features.version("jpg")
        self._views = self.folder / f"views-1-pillow{PIL.__version__}-jpeg{jpeg}"
        self.limit = limit
        try:
            self._views.mkdir(parents=True, exist_ok=True)
            probe = self._temporary()
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"data.cache={folder} cannot be written ({reason(error)}).") from None
        self._used = 0
        self._recount_at = -1  # bytes; below zero, so that the first addition counts the files
        self._closed = False
        # Shared with workers, so that only one of them warns that the cache is full.
        self._told = torch.zeros((), dtype=torch.bool).share_memory_()

    def digests(self, paths: Sequence[str | None]) -> np.ndarray:
        """Return the sha256 of each image file, uint8 (n, 32); zeros for a path of None.

        Each file is read once; its hash is then kept in the folder.

        Raises:
            UserError: a file cannot be read.
        """
        hashes = hash_files((Path(path) for path in dict.fromkeys(paths) if path is not None), self.folder)
        digest_N32 = np.zeros((len(paths), hashlib.sha256().digest_size), dtype=np.uint8)
        for row, path in enumerate(paths):
            if path is not None:
                digest_N32[row] = np.frombuffer(bytes.fromhex(hashes[Path(path)][1]), dtype=np.uint8)
        return digest_N32

    def get(self, digest: bytes, side: int) -> np.ndarray | None:
        """Return the view of an image as uint8 (3, side, side), or None if there is no valid entry.

        Args:
            digest: sha256 of the image file.
            side: of the view.
        """
        length = 3 * side * side
        try:
            with open(self._path(digest, side), "rb") as file:
                if os.fstat(file.fileno()).st_size != length + _CRC_BYTES:
                    return None
                content_N = np.fromfile(file, dtype=np.uint8)
        except OSError:
            return None
        if content_N[length:].tobytes() != _checksum(digest, side, content_N[:length]):
            return None
        return content_N[:length].reshape(3, side, side)

    def put(self, digest: bytes, side: int, view_CSS: np.ndarray) -> None:
        """Keep a view, uint8 (3, side, side), unless the cache is full; replace an existing entry."""
        path = self._path(digest, side)
        grows = 0 if path.exists() else view_CSS.nbytes + _CRC_BYTES
        if grows and not self._has_room(grows):
            return
        content_N = np.ascontiguousarray(view_CSS).reshape(-1)
        temporary = self._temporary()
        try:
            path.parent.mkdir(exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(content_N.data)
                file.write(_checksum(digest, side, content_N))
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._close(f"cannot be written any more ({reason(error)})")
            return
        self._used += grows

    def _path(self, digest: bytes, side: int) -> Path:
        name = digest.hex()
        return self._views / name[:2] / f"{name}-{side}{SUFFIX}"

    def _temporary(self) -> Path:
        return self._views / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"

    def _has_room(self, more: int) -> bool:
        """Return whether `more` bytes may be added; close the cache if not."""
        if self._closed:
            return False
        if self._used + more > self._recount_at:
            self._used = self._count()
            self._recount_at = self._used + max(more, (self.limit - self._used) // _STEPS)
        if self._used + more > self.limit:
            self._close(f"is full ({self.limit / 2**30:.3g} GB)")
            return False
        return True

    def _count(self) -> int:
        """Count the bytes of all entries, other versions' too; remove partial files of killed processes."""
        used = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                try:
                    if name.endswith(SUFFIX):
                        used += path.stat().st_size
                    elif path.parent == self._views and time.time() - path.stat().st_mtime > _STALE_S:
                        path.unlink()
                except FileNotFoundError:  # another process was faster
                    continue
        return used

    def _close(self, why: str) -> None:
        """Add nothing more in this process; warn once per run."""
        self._closed = True
        if not self._told:
            self._told.fill_(True)
            warnings.warn(
                f"The cache of views in {self.folder} {why}: images that are not in it are decoded in every "
                "epoch. Raise data.cache_gb, or delete the folder if it holds what you no longer use.",
                stacklevel=2,
            )


def _checksum(digest: bytes, side: int, content_N: np.ndarray) -> bytes:
    """Return the CRC-32 over key and content, so that an entry under another name is detected too."""
    return zlib.crc32(content_N.data, zlib.crc32(digest + side.to_bytes(4, "little"))).to_bytes(_CRC_BYTES, "little")
