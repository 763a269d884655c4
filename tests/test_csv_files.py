"""CSV as spreadsheets, editors and cut transfers leave it: the right rows, or the file and the line."""

from __future__ import annotations

import csv
import io

import pytest

from rrsis_bench.csv_files import MAX_CELL, original, parse_csv, read_csv, read_text, write_csv
from rrsis_bench.errors import UserError
from rrsis_bench.predict.job import read_expressions
from rrsis_bench.results.compare.files import compare_files

BOARD = "rank,model,size,miou,train_hash,reason\n1,lavt,tiny,57.60,abc,\n2,rrn,tiny,51.00,def,\n"


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        'expression\n"the ship, red one"\nthe car\n',
        '\ufeffexpression\r\n"the ship, red one"\r\nthe car\r\n',
        "expression;category\nthe ship, red one;ship\nthe car;car\n",
        "sep=;\nexpression;category\nthe ship, red one;ship\nthe car;car\n",
        "expression\tcategory\nthe ship, red one\tship\nthe car\tcar\n",
        'id,expression\n1,"the ship, red one"\n,\n\n2, the car \n',
        'expression\r"the ship, red one"\rthe car\r',
        'expression,,\n"the ship, red one",,\nthe car,,\n',
        '"expression"\n"the ship, red one"\n"the car"',
    ],
    ids=["comma", "mark", "semicolon", "sep", "tab", "blank rows", "old Mac", "unnamed columns", "quoted"],
)
def test_the_forms_that_spreadsheets_save(tmp_path, text):
    assert read_expressions(write(tmp_path / "x.csv", text)) == ["the ship, red one", "the car"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("expression\nthe car\nthe ship, red one\n", 3, "2 cells.*header has 1, .*double quotes"),
        ("expression;id\nthe ship; red one;7\n", 2, "3 cells.*header has 2, .*semicolons"),
        ('expression\n"the ship\nthe car\nthe tank\n', 2, "never closed"),
        ('expression\n"the ship\nthe car"\nthe tank\n', 2, "line break"),
        ('expression\nthe car\n"the ship\n"the tank"\n', 4, "closing quote.*line 3"),
        ('expression\nthe car\n"the ship" red\n', 3, "closing quote"),
        ("id,expression\n1,the car\n2\n", 3, "1 cells.*header has 2, .*cut off"),
        ("id,expression\n1,the car\n2,\n", 3, "no expression"),
        ('id,expression\n1, "the car"\n', 2, "space before the quote"),
        ("expression,expression\na,b\n", 1, "there twice"),
        ("expression,\nthe car,red\n", 2, "without a name"),
        ("expression\n" + "x" * (MAX_CELL + 1) + "\n", 2, "131,072"),
        ("expression\nthe c\0r\n", 2, "zero byte"),
        (b"expression\nthe car\ncaf\xe9\n", 3, "UTF-8"),
        ("sep=|\nexpression|id\n", 1, "separator"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, text, line, said):
    with pytest.raises(UserError, match=rf"x\.csv, line {line}: .*{said}"):
        read_expressions(write(tmp_path / "x.csv", text))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04\x14\0", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel"),
        ("expression\nthe car\n".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"text;id\na;1\n", "no column expression.*text, id"),
        (b"", "no column expression"),
        (b"expression\n", "no expression"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, data, said):
    with pytest.raises(UserError, match=said):
        read_expressions(write(tmp_path / "x.csv", data))


def test_a_list_of_lines_keeps_commas_quotes_and_line_ends(tmp_path):
    path = write(tmp_path / "x.txt", '\ufeffthe ship, red one\r\n\r\nthe 3" pipe\rthe car')
    assert read_expressions(path) == ["the ship, red one", 'the 3" pipe', "the car"]
    with pytest.raises(UserError, match=r"x\.txt, line 2: .*UTF-8"):
        read_text(write(path, b"a\n\xff\n"))


def test_a_long_file_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("rrsis_bench.csv_files.MAX_BYTES", 8)
    with pytest.raises(UserError, match=r"x\.csv is larger"):
        read_csv(write(tmp_path / "x.csv", "expression\nthe car\n"))


@pytest.mark.parametrize(
    "saved",
    [
        "\ufeff" + BOARD,
        BOARD.replace("\n", "\r\n"),
        BOARD.replace("57.60", "57.6").replace("51.00", "51"),
        BOARD.replace(",", ";"),
        "sep=;\n" + BOARD.replace(",", ";").replace("57.60", "57,6").replace("51.00", "51,0"),
        BOARD.replace(",", "\t").replace("\n1\t", "\n1.0\t"),
        BOARD + ",,,,,\n",
        BOARD.replace("tiny", '"tiny"'),
    ],
    ids=["mark", "line ends", "digits", "semicolon", "decimal comma", "tab", "empty row", "quotes"],
)
def test_a_leaderboard_that_a_spreadsheet_saved_again_is_the_same(tmp_path, saved):
    old, new = write(tmp_path / "a.csv", BOARD), write(tmp_path / "b.csv", saved)
    for pair in ((old, new), (new, old)):
        found = compare_files(*pair)
        assert [line.change for line in found.lines] == ["same", "same"]
        assert [line.gaps for line in found.lines] == [(0.0,), (0.0,)]


@pytest.mark.parametrize(
    ("saved", "line", "said"),
    [
        (BOARD[: -len(",def,\n")], 3, "4 cells.*cut off"),
        (BOARD.replace("abc,", "abc,,7"), 2, "7 cells"),
        (BOARD.replace("57.60", "nan"), 2, "miou.*nan"),
        (BOARD.replace("51.00", "inf"), 3, "miou.*inf"),
        (BOARD.replace("51.00", "1e999"), 3, "miou.*1e999"),
        (BOARD.replace("51.00", "#DIV/0!"), 3, "miou.*#DIV/0!"),
        (BOARD.replace("51.00", '"51,00"'), 3, "miou.*51,00"),
        (BOARD.replace("51.00", "51.00%"), 3, "miou.*51.00%"),
        (BOARD.replace("\n2,", "\nsecond,"), 3, "rank.*second"),
    ],
)
def test_a_leaderboard_with_a_damaged_row_is_not_called_the_same(tmp_path, saved, line, said):
    old, new = write(tmp_path / "a.csv", BOARD), write(tmp_path / "b.csv", saved)
    with pytest.raises(UserError, match=rf"b\.csv, line {line}: .*{said}"):
        compare_files(old, new)


def test_changes_are_numbers_and_a_missing_number_is_a_change(tmp_path):
    old = write(tmp_path / "a.csv", BOARD)
    new = write(tmp_path / "b.csv", BOARD.replace("57.60", "58.1").replace("51.00", ""))
    found = compare_files(old, new)
    assert [line.change for line in found.lines] == ["changed", "changed"]
    assert found.lines[0].gaps == (pytest.approx(0.5),)
    assert found.lines[1].gaps == (None,)


def test_a_threshold_is_a_number_and_a_file_without_scores_is_refused(tmp_path):
    text = "model,threshold,pr,train_hash\nlavt,{},60.00,abc\n"
    old, new = (write(tmp_path / f"{one}.csv", text.format(one)) for one in ("0.5", "0.50"))
    assert [line.change for line in compare_files(old, new).lines] == ["same"]
    costs = write(tmp_path / "efficiency.csv", "model,fps,train_hash\nlavt,3,abc\n")
    with pytest.raises(UserError, match=r"efficiency\.csv has no scores"):
        compare_files(costs, costs)


def test_no_text_is_a_formula_and_numbers_stay_numbers():
    texts = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-1e", "+1.5.2", "=", "-"]
    numbers = ["-0.52", "+0.52", "57.60", "-1e-4", "-.5", "+3"]
    plain = ["the ship", "a=b", "2-3", "'quoted", ""]
    for cells, changed in ((texts, True), (numbers, False), (plain, False)):
        written = list(csv.reader(io.StringIO(write_csv(["x"], [{"x": cell} for cell in cells]), newline="")))
        read = [row[0] if row else "" for row in written[1:]]
        assert read == [("'" if changed else "") + cell for cell in cells]
        assert [original(cell) for cell in read] == cells


def test_names_like_formulas_match_a_file_of_before(tmp_path):
    text = "model,category,miou,train_hash\nlavt,{},60.00,abc\n"
    old, new = write(tmp_path / "a.csv", text.format("=ship")), write(tmp_path / "b.csv", text.format("'=ship"))
    assert [line.change for line in compare_files(old, new).lines] == ["same"]


def test_cells_are_found_by_their_column():
    table = parse_csv("a;b\n1;x, y\n\n;z\n", "f.csv", ["b"])
    assert table.separator == ";"
    assert [(row.line, row.cells) for row in table.rows] == [(2, {"a": "1", "b": "x, y"}), (4, {"a": "", "b": "z"})]
    assert [table.number(row, "a") for row in table.rows] == [1.0, None]
