"""Read batches with loader processes, and say which samples were being read when one of these dies or hangs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.errors import UserError, reason
from rrsis_bench.interfaces import Batch

_SHOWN = 8
_PREFETCHED = 2  # batches that each loader process reads ahead, torch's default


class LoaderFailure(UserError):
    """A loader process died, or did not answer in time."""


class BatchReader:
    """Yields the batches of some samples in order; a context manager.

    torch reports a dead loader process with a RuntimeError at any place of the main process, for example in the
    model's forward pass. So the block that uses the batches is watched as a whole.

    Args:
        data: the samples as views.
        batch_size: samples per batch.
        indices: of the samples to read, in this order.
        num_workers: loader processes; 0: read in this process.
        pin_memory: page-locked tensors.
        timeout: seconds to wait for a batch of the loader processes; 0: for ever.

    Raises:
        LoaderFailure: in the block, if a loader process died or did not answer.
    """

    def __init__(
        self,
        data: ViewDataset,
        batch_size: int,
        indices: Sequence[int],
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        timeout: float = 0,
    ):
        self._data, self._batch_size, self._indices = data, batch_size, indices
        self._num_workers, self._timeout, self._read = num_workers, timeout, 0
        self._batches: Iterator[Any] | None = iter(
            make_loader(
                data,
                batch_size,
                indices,
                num_workers=num_workers,
                pin_memory=pin_memory,
                timeout=timeout if num_workers else 0,
            )
        )

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        assert self._batches is not None
        try:
            batch: Batch = next(self._batches)
        except (OSError, EOFError) as error:  # a process that dies while it sends; samples fail with a UserError
            raise RuntimeError(f"DataLoader worker lost: {reason(error)}") from error
        self._read += 1
        return batch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the loader processes, and name the samples if one of them failed."""
        self._batches = None
        if not isinstance(error, RuntimeError) or "DataLoader" not in str(error):
            return
        ids = self._in_flight()
        shown = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        if "timed out" in str(error):
            problem = f"The loader processes did not deliver a batch within {self._timeout:g} s"
            advice = "Check the disk or network that holds these images, or raise trainer.loader_timeout"
        else:
            problem = f"A loader process ended ({reason(error)})"
            advice = "Most often memory ran out: lower trainer.num_workers or trainer.cache_gb, or set num_workers=0"
        raise LoaderFailure(
            f"{problem} while these samples of split '{self._data.dataset.split}' were read: {shown}. {advice}. "
            "The same command continues from the last checkpoint."
        ) from None

    def _in_flight(self) -> list[str]:
        """Return the ids of the samples that were requested and not delivered."""
        start = self._read * self._batch_size
        stop = start + self._batch_size * max(1, self._num_workers * _PREFETCHED)
        return [self._data.dataset[index].sample_id for index in self._indices[start:stop]]
