"""The index of a split as arrays: tens of thousands of samples without a Python object for each of their fields.

Loader workers that are forked share arrays with their parent; objects they would copy, since counting references
writes into them. Nothing here changes after it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rrsis_bench.data.pixels.polygons import Shape
from rrsis_bench.data.pixels.rle import Rle


class Ragged:
    """Arrays of different lengths, end to end.

    Attributes:
        data_M: all of them.
        offset_N: int64, where each begins, and one past the last.
    """

    __slots__ = ("data_M", "offset_N")

    def __init__(self, data_M: np.ndarray, lengths: Iterable[int]):
        length_N = np.fromiter(lengths, np.int64)
        self.data_M = data_M
        self.offset_N = np.zeros(len(length_N) + 1, dtype=np.int64)
        length_N.cumsum(out=self.offset_N[1:])

    @classmethod
    def of_bytes(cls, parts: Sequence[bytes]) -> Ragged:
        """Byte strings as uint8."""
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), map(len, parts))

    def __len__(self) -> int:
        return len(self.offset_N) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Array `index`, a view."""
        index = range(len(self))[index]
        return self.data_M[self.offset_N[index] : self.offset_N[index + 1]]

    def take(self, rows_R: np.ndarray) -> Ragged:
        """The arrays at `rows_R`, in that order."""
        start_R = self.offset_N[:-1][rows_R]
        length_R = self.offset_N[1:][rows_R] - start_R
        if len(rows_R) and (np.diff(rows_R) == 1).all():
            return Ragged(self.data_M[start_R[0] : start_R[-1] + length_R[-1]].copy(), length_R)
        place_M = np.arange(length_R.sum()) + np.repeat(start_R - (length_R.cumsum() - length_R), length_R)
        return Ragged(self.data_M[place_M], length_R)


class Texts(Sequence[str]):
    """Texts in one array of UTF-8 bytes."""

    __slots__ = ("_bytes",)

    def __init__(self, texts: Iterable[str] = (), *, encoded: Ragged | None = None):
        # JSON may hold half a surrogate pair, which strict UTF-8 refuses.
        self._bytes = encoded or Ragged.of_bytes([text.encode("utf-8", "surrogatepass") for text in texts])

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index):  # an int: slices are not needed
        return self._bytes[index].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        whole, offsets = self._bytes.data_M.tobytes(), self._bytes.offset_N.tolist()
        for start, stop in zip(offsets, offsets[1:], strict=False):
            yield whole[start:stop].decode("utf-8", "surrogatepass")

    def take(self, rows_R: np.ndarray) -> Texts:
        """The texts at `rows_R`, in that order."""
        return Texts(encoded=self._bytes.take(rows_R))


class Rles(Sequence[Rle]):
    """Run-length masks.

    Attributes:
        area_N: int64, foreground pixels of each.

    Raises:
        ValueError: the masks and the areas are not equally many.
    """

    __slots__ = ("_counts", "_size_N2", "area_N")

    def __init__(self, counts: Ragged, size_N2: np.ndarray, area_N: np.ndarray):
        if not len(counts) == len(size_N2) == len(area_N):
            raise ValueError("masks, sizes and areas differ in number")
        self._counts, self._size_N2, self.area_N = counts, size_N2, area_N

    @classmethod
    def of(cls, rles: Sequence[Rle], area_N: np.ndarray) -> Rles:
        """Masks that `areas` found sound."""
        size_N2 = np.array([rle["size"] for rle in rles], dtype=np.int32).reshape(-1, 2)
        return cls(Ragged.of_bytes([rle["counts"] for rle in rles]), size_N2, area_N)

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, index):  # an int: slices are not needed
        return {"size": self._size_N2[index].tolist(), "counts": self._counts[index].tobytes()}

    def take(self, rows_R: np.ndarray) -> Rles:
        """The masks at `rows_R`, in that order."""
        return Rles(self._counts.take(rows_R), self._size_N2[rows_R], self.area_N[rows_R])


class Shapes(Sequence[list[Shape]]):
    """The shapes of every sample: polygons as coordinates end to end, run-length masks beside them."""

    __slots__ = ("_part", "_rle_of", "_sample", "_shape")

    def __init__(self, samples: Iterable[Sequence[Shape]]):
        parts: list[np.ndarray] = []
        n_parts: list[int] = []  # of each shape
        n_shapes: list[int] = []  # of each sample
        self._rle_of: dict[int, Rle] = {}
        for shapes in samples:
            n_shapes.append(len(shapes))
            for shape in shapes:
                if isinstance(shape, dict):
                    self._rle_of[len(n_parts)] = shape
                else:
                    parts += shape
                n_parts.append(0 if isinstance(shape, dict) else len(shape))
        self._part = Ragged(np.concatenate([np.zeros(0), *parts]), map(len, parts))
        self._shape = Ragged(np.arange(len(parts)), n_parts)
        self._sample = Ragged(np.arange(len(n_parts)), n_shapes)

    def __len__(self) -> int:
        return len(self._sample)

    def __getitem__(self, index):  # an int: slices are not needed
        return [
            self._rle_of[shape] if shape in self._rle_of else [self._part[part] for part in self._shape[shape]]
            for shape in self._sample[index].tolist()
        ]


_MAX_GROUPS = 7  # of 5 bits: what `masks.run_lengths` takes for a number
_CHUNK = 2**16  # bytes of run lengths that are checked at once


def areas(rles: Sequence[Rle]) -> np.ndarray:
    """Foreground pixels of each mask, int64 (N,), and -1 where `masks.check_rle` would refuse it."""
    area_N = np.full(len(rles), -1, dtype=np.int64)
    start = 0
    while start < len(rles):
        stop, size = start, 0
        while stop < len(rles) and (stop == start or size + len(rles[stop]["counts"]) <= _CHUNK):
            size += len(rles[stop]["counts"])
            stop += 1
        counts = [rle["counts"] for rle in rles[start:stop]]
        pixels_N = np.array([rle["size"][0] * rle["size"][1] for rle in rles[start:stop]], dtype=np.int64)
        area_N[start:stop] = _areas(counts, pixels_N)
        start = stop
    return area_N


def _areas(counts: Sequence[bytes], pixels_N: np.ndarray) -> np.ndarray:
    """`masks.run_lengths` of many masks at once, and what follows from them: see there for the encoding."""
    area_N = np.full(len(counts), -1, dtype=np.int64)
    usable = _usable(counts)
    if not len(usable):
        return area_N
    length_N = np.array([len(counts[index]) for index in usable])
    groups_M = np.frombuffer(b"".join(counts[index] for index in usable), dtype=np.uint8) - np.uint8(48)
    last_R = np.flatnonzero(groups_M < 32)
    width_R = np.diff(last_R, prepend=-1)
    runs_R = (groups_M[last_R].astype(np.int64) ^ 16) - 16
    for place in range(1, int(width_R.max())):
        longer_R = np.flatnonzero(width_R > place)
        runs_R[longer_R] = (runs_R[longer_R] << 5) | (groups_M[last_R[longer_R] - place] & 31)
    owner_R = np.repeat(np.arange(len(usable)), length_N)[last_R]
    first_N = np.searchsorted(owner_R, np.arange(len(usable)))
    place_R = np.arange(len(runs_R)) - first_N[owner_R]
    odd_R = place_R % 2 == 1
    for chosen_R in (np.flatnonzero(odd_R), np.flatnonzero(~odd_R & (place_R > 1))):
        runs_R[chosen_R] = _sums_within(runs_R[chosen_R], owner_R[chosen_R])
    sound_N = np.minimum.reduceat(runs_R, first_N) >= 0
    sound_N &= np.add.reduceat(runs_R, first_N) == pixels_N[usable]
    area_N[usable] = np.where(sound_N, np.add.reduceat(np.where(odd_R, runs_R, 0), first_N), -1)
    return area_N


def _usable(counts: Sequence[bytes]) -> np.ndarray:
    """Positions of the counts that are made of whole numbers of no more than seven groups each."""
    found = []
    for index, part in enumerate(counts):
        if part and part.isascii() and not part.translate(None, _ALPHABET) and part[-1] < 48 + 32:
            found.append(index)
    usable = np.array(found, dtype=np.int64)
    if not len(usable):
        return usable
    groups_M = np.frombuffer(b"".join(counts[index] for index in found), dtype=np.uint8) - np.uint8(48)
    last_R = np.flatnonzero(groups_M < 32)
    too_long_R = last_R[np.diff(last_R, prepend=-1) > _MAX_GROUPS]
    owner_M = np.repeat(np.arange(len(found)), [len(counts[index]) for index in found])
    return np.delete(usable, np.unique(owner_M[too_long_R]))


_ALPHABET = bytes(range(48, 48 + 64))


def _sums_within(value_R: np.ndarray, owner_R: np.ndarray) -> np.ndarray:
    """Running sums that begin anew with each owner; owners stand together."""
    if not len(value_R):
        return value_R
    sum_R = value_R.cumsum()
    first_G = np.flatnonzero(np.diff(owner_R, prepend=owner_R[0] - 1))
    before_G = sum_R[first_G] - value_R[first_G]
    return sum_R - np.repeat(before_G, np.diff(first_G, append=len(value_R)))
