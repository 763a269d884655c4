"""Chinese in figures: with a font that has it, and without one."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib import font_manager, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import open_split
from rrsis_bench.describe import stats, stats_figure
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.record import store
from rrsis_bench.results.render import charts, figures, fonts
from tests.fakes.custom import write_fake_custom
from tests.fakes.records import put


@pytest.fixture
def system(monkeypatch):
    """A machine with matplotlib's own fonts alone; called with a file, it has that font too."""
    own = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith("DejaVu")]
    found: list[str] = []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    caches = (fonts._path, fonts._notice_new_fonts, fonts._characters, font_manager.fontManager._findfont_cached)

    def forget():
        for each in caches:
            each.cache_clear()

    def install(path):
        found.append(str(path))
        forget()

    forget()
    yield install
    forget()


def make_font(path, family, characters):
    """A font whose characters are all full squares."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = {ord(char): f"g{ord(char):04X}" for char in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    glyphs = {}
    for name in (".notdef", *names.values()):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, 800), (900, 800), (900, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


def shown(texts):
    console = Terminal(file=io.StringIO(), width=400)
    return fonts.lettering(texts, console), console.file.getvalue()


def ink(text, families):
    """Dark pixels of a drawn text."""
    with rc_context({"font.family": families}):
        figure = Figure(figsize=(2, 0.5), dpi=50)
        FigureCanvasAgg(figure)
        figure.text(0.1, 0.3, text, fontsize=20)
        figure.canvas.draw()
        return int((np.asarray(figure.canvas.buffer_rgba())[..., 0] < 128).sum())


@pytest.mark.usefixtures("system")
def test_nothing_changes_for_names_that_the_own_font_has():
    letters, said = shown(["tennis court", "café ≥ 96²", "a\nb"])
    assert letters == fonts.Lettering(("DejaVu Sans",), frozenset())
    assert letters("tennis court\n≥") == "tennis court\n≥"
    assert said == ""


@pytest.mark.usefixtures("system")
def test_without_a_font_characters_are_written_as_numbers_and_one_line_says_so():
    letters, said = shown(["飞机 (plane)", "船"])
    assert letters.families == ("DejaVu Sans",)
    assert letters("飞机 (plane)") == "U+98DE U+673A (plane)"
    assert letters("a船b") == "a U+8239 b"
    assert said.count("\n") == 1
    assert "fonts-noto-cjk" in said
    assert "机" in said


def test_a_font_that_was_installed_after_matplotlibs_list_is_found_and_drawn_with(system, tmp_path):
    system(make_font(tmp_path / "hei.ttf", "SimHei", "飞机"))
    letters, said = shown(["飞机"])
    assert (letters.families, letters.absent, said) == (("DejaVu Sans", "SimHei"), frozenset(), "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ink("飞机", letters.families) > 200  # two full squares
    with pytest.warns(UserWarning, match="Glyph"):
        ink("飞机", ("DejaVu Sans",))  # what it would have been


def test_the_font_with_most_of_the_characters_is_taken_and_the_rest_said(system, tmp_path):
    system(make_font(tmp_path / "a.ttf", "SimHei", "飞"))
    system(make_font(tmp_path / "b.ttf", "SimSun", "飞机"))
    letters, said = shown(["飞机船"])
    assert letters.families == ("DejaVu Sans", "SimSun")
    assert letters("飞机船") == "飞机 U+8239"
    assert "船" in said
    assert "飞" not in said


@pytest.mark.parametrize("installed", [False, True])
def test_figures_with_chinese_names_have_no_empty_boxes(system, installed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(charts, "DPI", 40)
    monkeypatch.setattr(stats_figure, "DPI", 80)
    if installed:
        system(make_font(tmp_path / "hei.ttf", "SimHei", "储油罐<蓝>"))
    put(tmp_path)  # the fakes have a Chinese category
    tree = write_fake_custom(tmp_path / "data")
    for rows in tree.rows.values():
        for row in rows:
            row["category"] = "储油罐"
    tree.write()
    datasets = {split: open_split("custom", tree.root, split) for split in ("train", "val", "test")}
    console = Terminal(file=io.StringIO())
    found = stats.collect("custom", tree.root, datasets, None, console)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.write(rank(store.read_all(tmp_path), tmp_path), "test", "native", tmp_path / "figures")
        stats_figure.write(found, tmp_path / "stats.png")
    said = capsys.readouterr().err
    svg = (tmp_path / "figures" / "categories.svg").read_text(encoding="utf-8")
    if installed:
        assert said == ""
        assert "U+" not in svg
        assert "SimHei" in svg
    else:
        assert said.count("fonts-noto-cjk") == 2
        assert "U+" in svg
