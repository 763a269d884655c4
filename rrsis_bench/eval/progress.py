"""Scored batches in a file, so that an evaluation that was killed continues after its last batch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrsis_bench.codec import parse_json
from rrsis_bench.data.pixels import rle
from rrsis_bench.errors import UserError, reason
from rrsis_bench.eval.counts import SampleCounts

Scored = tuple[SampleCounts, rle.Rle | None]
"""The integers of a sample, and its mask if it is needed again."""

_SYNC_S = 5.0  # a power failure loses the batches of the last seconds; a killed process loses none


class ScoringProgress:
    """The scored samples of one pass over a split, as lines of a file: the pass's identity, then one line per flush.

    A file of another identity is started again. So is everything behind a line that is damaged.

    Args:
        path: the file. With several processes, each has its own.
        identity: JSON-ready values; integers are only taken over from a pass with equal ones.
        others: files of processes that do not take part this time; their rows are taken over too.

    Attributes:
        scored: sample id -> its integers, and the mask if it was kept, of an earlier process.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], others: Sequence[Path] = ()):
        self.path = path
        self.scored: dict[str, Scored] = {}
        head = json.dumps(identity, sort_keys=True).encode() + b"\n"
        self._synced = time.monotonic()
        self._waiting: list[Scored] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for other in others:
                self._take(other.read_bytes(), head)
            content = path.read_bytes() if path.exists() else b""
            keep = self._take(content, head)
            with path.open("ab") as file:
                file.truncate(keep)
                if not keep:
                    file.write(head)
        except OSError as error:
            raise self._unwritable(error) from error

    def _take(self, content: bytes, head: bytes) -> int:
        """Take over the rows of an earlier process; return the number of bytes that are valid."""
        if not content.startswith(head):
            return 0
        keep = len(head)
        while (end := content.find(b"\n", keep)) >= 0:
            try:
                line = parse_json(content[keep:end])
                rows = [SampleCounts(*values) for values in line["rows"]]
                masks = [None if mask is None else rle.parse(mask) for mask in line["masks"]]
                if len(rows) != len(masks):
                    break
            except (ValueError, TypeError, KeyError, AttributeError, UserError):
                break
            self.scored |= {row.sample_id: (row, mask) for row, mask in zip(rows, masks, strict=True)}
            keep = end + 1
        return keep

    def add(self, row: SampleCounts, mask: rle.Rle | None = None) -> None:
        """Remember a scored sample until the next `flush`.

        Args:
            row: its integers.
            mask: its mask, if it is needed again.
        """
        self._waiting.append((row, mask))

    def flush(self) -> None:
        """Append the remembered samples to the file; UserError if that fails."""
        if not self._waiting:
            return
        values = [[getattr(row, name) for name in row.__dataclass_fields__] for row, _ in self._waiting]
        masks = [
            None if mask is None else {**mask, "counts": mask["counts"].decode("ascii")} for _, mask in self._waiting
        ]
        self._waiting = []
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps({"rows": values, "masks": masks}).encode() + b"\n")
                if time.monotonic() - self._synced > _SYNC_S:
                    file.flush()
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} could not be written: {reason(error)}. Free some space or set runs=/other/folder, then run "
            "the same command again: it continues with what is written."
        )
