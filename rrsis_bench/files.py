"""Atomic writes and file hashes: the only module that replaces files or computes a file's sha256."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from rrsis_bench.errors import UserError, reason


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files atomically: all reach the disk under temporary names before the first one is renamed, in order.

    Args:
        files: path -> content. Missing folders are created.

    Raises:
        UserError: a write failed. Existing files are intact and no temporary file is left.
    """
    try:
        with replacing_all(files) as temporaries:
            for path, data in files.items():
                temporaries[path].write_bytes(data)
    except OSError as error:
        raise UserError(f"{error.filename or 'A file'} could not be written: {reason(error)}.") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file atomically; errors as in `write_files`."""
    write_files({path: data})


def write_text(path: Path, text: str) -> None:
    """Write one UTF-8 file atomically; errors as in `write_files`."""
    write_files({path: text.encode("utf-8")})


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for one file; see `replacing_all`."""
    with replacing_all([path]) as temporaries:
        yield temporaries[path]


@contextlib.contextmanager
def replacing_all(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path for each file; the files appear together if the block ends without an error.

    For files that a library writes itself, or that are too large to hold in memory. The temporary files have the same
    names, in a temporary folder beside `paths`. After an error that folder is removed with everything that a library
    left in it, and `paths` keep their old content.

    Args:
        paths: the files, in the order in which they are renamed. Missing folders are created.

    Raises:
        OSError: a folder or file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        drafts: dict[Path, Path] = {}
        temporaries: dict[Path, Path] = {}
        for path in paths:
            if path.parent not in drafts:
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = TemporaryDirectory(prefix=".", suffix=".tmp", dir=path.parent, ignore_cleanup_errors=True)
                drafts[path.parent] = Path(stack.enter_context(draft))
            temporaries[path] = drafts[path.parent] / path.name
        yield temporaries
        for temporary in temporaries.values():
            fsync(temporary)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
        for folder in drafts:
            fsync(folder)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; it replaces the folder `path` if the block ends without an error.

    The temporary folder is in ``.<name>.*.tmp`` beside `path`. A killed process leaves it there.

    Raises:
        OSError: a folder or file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent, ignore_cleanup_errors=True)
    with draft as folder:
        temporary = Path(folder) / path.name
        temporary.mkdir()
        yield temporary
        for entry in (*temporary.iterdir(), temporary):
            fsync(entry)
        if path.exists():  # deleted with the temporary folder, when the new one is in place
            os.replace(path, Path(folder) / "old")
        os.replace(temporary, path)
        fsync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone among the processes that ask for the same lock; wait for the others.

    The lock is on the folder itself, so that no lock file appears, and it ends with the process. On a file system
    without locks the block runs unlocked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def require_writable(folder: Path, field: str) -> None:
    """Check that a folder can be written, by a temporary file in it, or in the nearest folder above that exists.

    Args:
        folder: the folder.
        field: the configuration field that names it, for the message.

    Raises:
        UserError: it cannot be written.
    """
    absolute = folder.absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    try:
        with NamedTemporaryFile(prefix=".", suffix=".tmp", dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"{field}={folder} cannot be written: {reason(error)}. Name another folder.") from error


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
