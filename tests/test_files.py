"""Atomic writes: several files appear together, or none does."""

from __future__ import annotations

import pytest

from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import replacing_all, write_files


def test_files_appear_together_at_the_end(tmp_path):
    paths = [tmp_path / "a.tif", tmp_path / "new" / "b.gpkg"]
    with replacing_all(paths) as temporaries:
        for path in paths:
            temporaries[path].write_text(path.name)
            assert temporaries[path].suffix == path.suffix
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["a.tif", "b.gpkg"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tif", "b.gpkg", "new"]


def test_after_an_error_the_old_files_are_there_and_no_other(tmp_path):
    old = tmp_path / "a.gpkg"
    old.write_text("old")

    def fail() -> None:
        with replacing_all([old, tmp_path / "b.tif"]) as temporaries:
            temporaries[old].write_text("new")
            temporaries[old].with_name("a.gpkg-journal").write_text("of the database")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.gpkg"]
    assert old.read_text() == "old"


def test_an_error_names_the_file_and_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file could not be written"):
        write_files({tmp_path / "file" / "a.json": b""})
    assert reason(RuntimeError("first\nsecond")) == "first"
    assert reason(MemoryError()) == "MemoryError"
