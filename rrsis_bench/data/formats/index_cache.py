"""What was read from files that have not changed since is not read again within a process.

A run opens three splits and hashes them: the same index files six times.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SETTLED_NS = 2 * 10**9
"""A file that was written less than this before it was read may be written again without a later time on it."""

_Stamp = tuple[tuple[int, int, int, int], ...]


class Kept(Generic[T]):
    """A function of files that remembers its last results; they are shared, so nobody may change them.

    Args:
        read: the function; it is called with what follows the files.
        size: results that are kept, the latest ones.
    """

    def __init__(self, read: Callable[..., T], size: int):
        self._read, self._size = read, size
        self._found: dict[Hashable, tuple[_Stamp, T]] = {}

    def __call__(self, files: Sequence[Path], *arguments: Any) -> T:
        """The result for `arguments`; read anew where one of `files` (a folder: its list of names) has changed."""
        key = (tuple(map(os.path.abspath, files)), arguments)
        stamp, now = _stamp(files), time.time_ns()
        known = self._found.pop(key, None)
        if known is not None and known[0] == stamp:
            self._found[key] = known
            return known[1]
        value = self._read(*arguments)
        settled = all(modified < now - SETTLED_NS for _, modified, _, _ in stamp)
        if stamp and settled and _stamp(files) == stamp:
            self._found[key] = (stamp, value)
            while len(self._found) > self._size:
                del self._found[next(iter(self._found))]
        return value


def _stamp(files: Sequence[Path]) -> _Stamp:
    """Size, times and number of each file; empty where one of them is not there."""
    try:
        stats = [os.stat(path) for path in files]
    except OSError:
        return ()
    return tuple((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for stat in stats)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a million new lists and dicts make it walk through all of them again and again.

    Parsing NWPU-Refer's files takes half the time so.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
