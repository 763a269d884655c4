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
from rrsis_bench.eval.counts import Array, SampleCounts

_SYNC_S = 5.0  # a power failure loses the batches of the last seconds; a killed process loses none


class ScoringProgress:
    """The scored samples of one pass over a split, as lines of a file: the pass's identity, then one line per flush.

    A file of another identity is started again. So is everything behind a line that is damaged.

    Args:
        path: the file.
        identity: JSON-ready values; integers are only taken over from a pass with equal ones.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = path
        self.rows: list[SampleCounts] = []
        self.masks: list[rle.Rle | None] = []
        head = json.dumps(identity, sort_keys=True).encode() + b"\n"
        self._synced = time.monotonic()
        self._waiting: list[tuple[SampleCounts, Array | None]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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
            self.rows += rows
            self.masks += masks
            keep = end + 1
        return keep

    def mask(self, place: int) -> Array:
        """Return the bool (H, W) mask that an earlier process predicted for the row at `place`."""
        mask = self.masks[place]
        if mask is None:
            raise ValueError(f"The mask of {self.rows[place].sample_id} was not kept.")
        return rle.decode(mask)

    def require_order(self, sample_ids: Sequence[str]) -> None:
        """Drop everything unless the rows are the first ones of `sample_ids`."""
        if [row.sample_id for row in self.rows] != list(sample_ids[: len(self.rows)]):
            self.rows, self.masks = [], []
            try:
                with self.path.open("rb+") as file:
                    file.readline()
                    file.truncate(file.tell())
            except OSError as error:
                raise self._unwritable(error) from error

    def add(self, row: SampleCounts, mask_HW: Array | None = None) -> None:
        """Remember a scored sample until the next `flush`.

        Args:
            row: its integers.
            mask_HW: the bool (H, W) mask, if it is needed again.
        """
        self._waiting.append((row, mask_HW))

    def flush(self) -> None:
        """Append the remembered samples to the file; UserError if that fails."""
        if not self._waiting:
            return
        values = [[getattr(row, name) for name in row.__dataclass_fields__] for row, _ in self._waiting]
        masks = [None if mask_HW is None else _to_json(mask_HW) for _, mask_HW in self._waiting]
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


def _to_json(mask_HW: Array) -> dict[str, Any]:
    encoded = rle.encode(mask_HW)
    return {**encoded, "counts": encoded["counts"].decode("ascii")}
