"""`rrsis-bench config` prints the fields from their declarations."""

from __future__ import annotations

from rrsis_bench import cli


def test_fields_and_entries_are_printed_with_meaning_and_effect(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    assert cli.main(["config", "train", "train.epochs=7"]) == 0
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if "train.epochs" in line)
    assert "7" in row
    assert "training" in row
    assert "Passes over the training split" in row
    assert "adamw" in shown
    assert "trainer.accelerator" not in shown


def test_a_misspelt_prefix_is_refused_with_a_suggestion(capsys):
    assert cli.main(["config", "trian"]) == 2
    assert "train" in capsys.readouterr().err


def test_probes_are_listed_with_their_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    assert cli.main(["config", "probes"]) == 0
    shown = capsys.readouterr().out
    assert "wrong_side" in shown
    assert "Typing errors per expression" in shown
    assert "train.loss" not in shown
