"""The class of every sample in every stratum, computed once per split of a dataset and stored beside its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rrsis_bench.data.text.strata import STRATA, Training
from rrsis_bench.errors import UserError
from rrsis_bench.eval import packed

_ID = "sample_id"


@dataclass(frozen=True)
class Membership:
    """Classes of the samples of one split.

    Attributes:
        sample_ids: (N), in the order of the split.
        strata: name of a stratum -> (N) classes.
    """

    sample_ids: tuple[str, ...]
    strata: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, sample_ids: Iterable[str], expressions: Sequence[str], training: Training) -> Membership:
        """Sort the expressions of a split into the classes of every stratum in `STRATA`."""
        return cls(
            tuple(sample_ids),
            {name: tuple(stratum.class_of(text, training) for text in expressions) for name, stratum in STRATA.items()},
        )

    def classes(self, stratum: str, sample_ids: Sequence[str]) -> list[str]:
        """Return the class of each of `sample_ids`; UserError if a sample is not of this split."""
        place = {sample_id: index for index, sample_id in enumerate(self.sample_ids)}
        missing = [sample_id for sample_id in sample_ids if sample_id not in place]
        if missing:
            raise UserError(
                f"{len(missing)} samples are in no stratum ({', '.join(missing[:5])}): the counts and the strata are "
                "of different datasets. Evaluate the run again."
            )
        found = self.strata[stratum]
        return [found[place[sample_id]] for sample_id in sample_ids]

    def to_csv_gz(self) -> bytes:
        """Return the table as gzip-compressed CSV (UTF-8); the same table gives the same bytes."""
        return packed.pack([(_ID, *self.strata), *zip(self.sample_ids, *self.strata.values(), strict=True)])

    @classmethod
    def from_csv_gz(cls, data: bytes, where: str = "the strata file") -> Membership:
        """Read what `to_csv_gz` wrote.

        Args:
            data: the compressed bytes.
            where: how an error message names the file.

        Raises:
            UserError: a torn file, a row that does not fit the header, or a sample twice.
        """
        lines = packed.unpack(data, where)
        _, (first, *names) = next(lines)
        if first != _ID or len(set(names)) < len(names):
            raise UserError(f"{where} has the columns {', '.join([first, *names])}; expected {_ID} and strata.")
        rows = list(lines)
        for line, cells in rows:
            if len(cells) != 1 + len(names):
                raise UserError(f"{where}, line {line}: {len(cells)} values instead of {1 + len(names)}.")
        ids = tuple(cells[0] for _, cells in rows)
        if len(set(ids)) < len(ids):
            raise UserError(f"{where} has a sample twice. Restore it, or evaluate the run again.")
        return cls(ids, {name: tuple(cells[1 + index] for _, cells in rows) for index, name in enumerate(names)})


def class_order(stratum: str, found: Iterable[str]) -> list[str]:
    """Return the classes that occur, in the order of `STRATA`; classes that it does not know follow by name."""
    known = STRATA[stratum].classes if stratum in STRATA else ()
    occurring = set(found)
    return [name for name in known if name in occurring] + sorted(occurring - set(known))
