"""Small tables as gzip-compressed CSV in UTF-8: the same rows give the same bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rrsis_bench.csv_files import records, write_rows
from rrsis_bench.errors import UserError

MAX_UNPACKED = 64 * 2**20
"""Bytes of a table as text: about 700,000 samples."""


def pack(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows, the header first, as compressed CSV."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(write_rows(rows).encode("utf-8"))
    return packed.getvalue()


def unpack(data: bytes, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row, the header first.

    Args:
        data: what `pack` returned.
        where: how an error message names the file.

    Raises:
        UserError: a torn file, no line, no CSV, or more than `MAX_UNPACKED` bytes of text.
    """
    empty = True
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = io.TextIOWrapper(io.BufferedReader(_Bounded(file, where)), "utf-8", newline="")
            for entry in records(text, where):
                empty = False
                yield entry
    except (OSError, EOFError, zlib.error, ValueError) as error:  # torn gzip, not UTF-8
        raise UserError(f"{where} is damaged: {error}. Restore it, or evaluate the run again.") from error
    if empty:
        raise UserError(f"{where} is damaged: it has no line. Restore it, or evaluate the run again.")


class _Bounded(io.RawIOBase):
    """An unpacked file of at most `MAX_UNPACKED` bytes. One megabyte of gzip can hold a thousand."""

    def __init__(self, file: gzip.GzipFile, where: str):
        self._file, self._where, self._left = file, where, MAX_UNPACKED

    def readable(self) -> bool:
        """As `io.RawIOBase.readable`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As `io.RawIOBase.readinto`; UserError after the last byte that is allowed."""
        read = self._file.readinto(buffer)
        self._left -= read
        if self._left < 0:
            raise UserError(
                f"{self._where} unpacks to more than {MAX_UNPACKED // 2**20} MB, which none needs. Restore it, or "
                "evaluate the run again."
            )
        return read
