"""CSV files as spreadsheets save them: strict reading, and cells that no spreadsheet takes for formulas.

Read are UTF-8 with or without a byte order mark, and cells separated by commas, semicolons or tabs. A spreadsheet's
first line ``sep=;`` names the separator. Nothing is guessed beyond that: a row with a cell too many or too few, an open
quote or an overlong cell is an error with its line number.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrsis_bench.errors import UserError, reason

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
MAX_CELL = 131_072
"""Characters. The csv module's own limit, too."""
MAX_BYTES = 2**28

_AS_CSV = "Save it as CSV in UTF-8."
_KINDS = {  # first bytes of what else is saved or renamed to .csv
    b"PK\x03\x04": f"is a workbook or an archive. {_AS_CSV}",
    b"\xd0\xcf\x11\xe0": f"is an old Excel workbook. {_AS_CSV}",
    b"\xff\xfe": f"is in UTF-16. {_AS_CSV}",
    b"\xfe\xff": f"is in UTF-16. {_AS_CSV}",
    b"\x1f\x8b": "is compressed. Unpack it.",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row.

    Attributes:
        line: in the file, counted from 1; the first one of a row of several lines.
        cells: column -> text, without spaces around it.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A file's header and rows. Rows of empty cells only are left out.

    Attributes:
        where: the file, for messages.
        separator: one of `SEPARATORS`.
        columns: in order.
        rows: in order.
    """

    where: str
    separator: str
    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]

    def error(self, row: CsvRow, message: str) -> UserError:
        """Return the error about one row."""
        return _error(self.where, row.line, message)

    def number(self, row: CsvRow, column: str) -> float | None:
        """Return a cell as a finite number; None if it is empty or the file has no such column.

        Where cells are not separated by commas, a comma is a decimal comma, as spreadsheets of many countries write it.

        Raises:
            UserError: anything else, such as ``nan`` or ``#DIV/0!``.
        """
        text = row.cells.get(column, "")
        if not text:
            return None
        plain = text.replace(",", ".") if self.separator != "," and _DECIMAL_COMMA.fullmatch(text) else text
        if not _NUMBER.fullmatch(plain) or not math.isfinite(float(plain)):
            raise self.error(row, f"{column} is '{text[:40]}', which is not a number. Correct it, or leave it empty.")
        return float(plain)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: it cannot be read, is larger than `MAX_BYTES`, or is something else; the message says what.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES // 2**20} MB. Split it.")
    for start, what in _KINDS.items():
        if data.startswith(start):
            raise UserError(f"{path} {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(path, line, f"not UTF-8 (byte {data[error.start]:#04x}). Save the file in UTF-8") from error


def read_csv(path: Path, needed: Sequence[str] | None = ()) -> CsvTable:
    """Read a file of a user; see `parse_csv`."""
    return parse_csv(read_text(path), str(path), needed)


def parse_csv(text: str, where: str, needed: Sequence[str] | None = ()) -> CsvTable:
    """Parse CSV with a header.

    Args:
        text: the content.
        where: how messages name the file.
        needed: columns that must exist. The separator is the one that gives them. None: no column is known
            beforehand, and the separator is the one that gives most columns.

    Raises:
        UserError: no such column, a column twice, a row of another length, an open quote, text after a closing quote,
            an overlong cell or a zero byte; with the line.
    """
    separator, skipped = _separator(text, where, needed)
    found = records(io.StringIO(text, newline=""), where, separator)
    for _ in range(skipped):
        next(found)
    line, header = next(found, (1, []))
    columns = tuple(name.strip() for name in header)
    missing = [name for name in needed or () if name not in columns]
    if missing:
        has = f"Its columns are: {', '.join(columns)}" if any(columns) else "Its first line is empty"
        raise UserError(f"{where} has no column {', '.join(missing)}. {has}.")
    for name in columns:
        if name and columns.count(name) > 1:
            raise _error(where, line, f"the column {name} is there twice. Remove or rename one")
    rows = []
    for line, cells in found:
        if not any(map(str.strip, cells)):
            continue
        row = _row(where, line, columns, cells, separator)
        rows.append(row)
    return CsvTable(where, separator, columns, tuple(rows))


def _row(where: str, line: int, columns: tuple[str, ...], cells: list[str], separator: str) -> CsvRow:
    if len(cells) != len(columns):
        named = SEPARATORS[separator]
        advice = (
            f"A cell with one of these {named} in it needs double quotes around it"
            if len(cells) > len(columns)
            else "The file may be cut off here"
        )
        cells_here, expected = len(cells), len(columns)
        raise _error(where, line, f"{cells_here} cells where the header has {expected}, separated by {named}. {advice}")
    for name, cell in zip(columns, cells, strict=True):
        if not name and cell.strip():
            raise _error(where, line, f"the cell '{cell.strip()[:40]}' is in a column without a name. Name it")
        if cell[:1] == " " and cell.lstrip(" ")[:1] == '"':
            raise _error(where, line, f"a space before the quote of column {name}. Remove the space")
    return CsvRow(line, {name: cell.strip() for name, cell in zip(columns, cells, strict=True) if name})


def _separator(text: str, where: str, needed: Sequence[str] | None) -> tuple[str, int]:
    """Return the separator, and 1 if the first line only names it, else 0."""
    named = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)
    if named is not None:
        if named[1] not in SEPARATORS:
            raise _error(where, 1, f"the separator '{named[1]}' is not known. Use {', '.join(SEPARATORS.values())}")
        return named[1], 1
    most, best = -1, ","
    for separator in SEPARATORS if needed or needed is None else ",":
        try:
            _, header = next(records(io.StringIO(text, newline=""), where, separator), (1, []))
        except UserError:
            continue  # the other separators may fit; the one that is chosen reports it
        columns = {name.strip() for name in header}
        if needed is not None and columns.issuperset(needed):
            return separator, 0
        if len(columns) > most:
            most, best = len(columns), separator
    return best, 0


def records(lines: Iterable[str], where: str, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row, as they are; the header is the first row.

    Args:
        lines: the content, with its line ends.
        where: how messages name the file.
        separator: of the cells.

    Raises:
        UserError: an open quote, text after a closing quote, an overlong cell or a zero byte; with the line.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _refused(where, line, reader.line_num, str(error)) from error
        if any("\0" in cell for cell in cells):
            raise _error(where, line, "a zero byte. The file is damaged: save it again")
        if max(map(len, cells), default=0) > MAX_CELL:  # another library may have raised the csv module's limit
            raise _refused(where, line, line, "field limit")
        yield line, cells


def _refused(where: str, first: int, last: int, message: str) -> UserError:
    if "field limit" in message:
        message = f"a cell with more than {MAX_CELL:,} characters. An open quote joins all lines after it"
    elif "unexpected end" in message:
        message = "a quote is opened and never closed. Close it, or remove it"
    elif "expected after" in message:
        line = f" that began in line {first}" if last > first else ""
        return _error(where, last, f"not CSV: text after the closing quote of a cell{line}. Quotes within are doubled")
    return _error(where, first, message)


def _error(where: object, line: int, message: str) -> UserError:
    return UserError(f"{where}, line {line}: {message.removesuffix('.')}.")


def write_csv(columns: Sequence[str], lines: Iterable[dict[str, object]]) -> str:
    """Return lines of text cells as CSV; None is an empty cell, and no text is a spreadsheet's formula."""
    return write_rows([columns, *([_inert(line.get(name)) for name in columns] for line in lines)])


def write_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, text unchanged; None is an empty cell."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # The csv module leaves a cell with a carriage return unquoted, and reads it as two rows.
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if returns else plain).writerow(row)
    return text.getvalue()


def original(cell: str) -> str:
    """Return the text that `write_csv` was given for a cell."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def _inert(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet would compute. Numbers stay as they are."""
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
