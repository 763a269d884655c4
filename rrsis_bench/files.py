"""Atomic writes and file hashes: the only module that replaces files or computes a file's sha256."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rrsis_bench.errors import UserError


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files atomically: all reach the disk under temporary names before the first one is renamed, in order.

    Args:
        files: path -> content. Missing folders are created.

    Raises:
        UserError: a write failed. Existing files are intact and no temporary file is left.
    """
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporaries[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            os.replace(temporaries[path], path)
        for folder in {path.parent for path in files}:
            fsync(folder)
    except OSError as error:
        raise UserError(f"{error.filename or 'A file'} could not be written: {error.strerror or error}.") from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file atomically; errors as in `write_files`."""
    write_files({path: data})


def write_text(path: Path, text: str) -> None:
    """Write one UTF-8 file atomically; errors as in `write_files`."""
    write_files({path: text.encode("utf-8")})


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` if the block ends without an error.

    For files that a library writes itself, or that are too large to hold in memory. The temporary file is removed after
    an error, and `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file's content, or a folder's renames, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_bytes(data: bytes) -> str:
    """Return the sha256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal, read in blocks.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
