"""Write all leaderboard files: the tables and the report page, as a pure function of the records."""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.files import locked, write_files
from rrsis_bench.results.board import rows, tables
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render import page


def regenerate(root: Path) -> list[Path]:
    """Write every table below `root` and the report page from the records, and return their paths.

    Tables of datasets without a record are deleted. Other processes may write records meanwhile: the tables are written
    again until the set of records has not changed since it was read. One process at a time does so.

    Raises:
        UserError: a record is invalid, or a write failed. Every table is then the old or the new one, never a part.
    """
    return _regenerate(root)[0]


def regenerate_and_rank(root: Path) -> list[rows.BoardRow]:
    """Do as `regenerate`, and return the rows of all datasets that the tables show."""
    return _regenerate(root)[1]


def _regenerate(root: Path) -> tuple[list[Path], list[rows.BoardRow]]:
    with locked(root):
        while True:
            before = store.listing(root)
            try:
                written = _write(root)
            except UserError:
                if store.listing(root) == before:
                    raise
                continue
            if store.listing(root) == before:
                return written


def _write(root: Path) -> tuple[list[Path], list[rows.BoardRow]]:
    by_data: dict[str, list[Record]] = {}
    for record in store.read_all(root):
        by_data.setdefault(record.data, []).append(record)
    files: dict[Path, bytes] = {}
    everything: list[rows.BoardRow] = []
    for data in sorted(by_data):
        ranked = rows.rank(by_data[data], root)
        everything += ranked
        files |= {root / name: content for name, content in tables.files(data, ranked).items()}
    if everything:
        files[root / tables.EFFICIENCY] = tables.efficiency_file(everything)
        files[root / page.INDEX] = page.build(root, everything)
    write_files(files)
    for marker in root.glob("*_per_threshold.csv"):
        if marker not in files:
            data = marker.name.removesuffix("_per_threshold.csv")
            for name in tables.files(data, []):
                (root / name).unlink(missing_ok=True)
    for stale in root.glob(f"*{tables.PROBES}.csv"):
        if stale not in files:
            stale.unlink()
    for path in root.glob(f"*{tables.STRATA_TABLE}.csv"):
        if path not in files:
            path.unlink(missing_ok=True)
    if not everything:
        for name in (tables.EFFICIENCY, page.INDEX):
            (root / name).unlink(missing_ok=True)
    return list(files), everything
