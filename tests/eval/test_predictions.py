"""Prediction files: what is refused, that the form of a mask changes nothing, and counting without decoding."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rrsis_bench.data.formats import open_split
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import count_pixels, count_spans
from rrsis_bench.eval.predictions import PredictionWriter, count_predictions, file_name
from rrsis_bench.interfaces import ReferringDataset, Sample

IDS = ("00007", "a/b", "图 1", "50%", "..")


class FakeSplit(ReferringDataset):
    """Masks in memory; run lengths are offered where `as_rle` says so."""

    name, split, category_names = "fake", "test", ("ship",)

    def __init__(self, targets: dict[str, np.ndarray], *, as_rle: bool):
        self.targets, self.as_rle = targets, as_rle

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        sample_id, mask_HW = list(self.targets.items())[index]
        rle = masks.encode(mask_HW) if self.as_rle else None
        return Sample(
            sample_id, f"i{index}", "a ship", "en", "ship", 1,
            read_image=lambda: pytest.fail("no picture is needed"),
            read_mask=(lambda: pytest.fail("decoded")) if self.as_rle else (lambda: mask_HW),
            read_rle=partial(dict, rle) if rle else None,
        )  # fmt: skip


@dataclass
class Case:
    """A split of five samples of different sizes, and a prediction for each."""

    dataset: FakeSplit
    preds: dict[str, np.ndarray]


@pytest.fixture(params=[True, False], ids=["targets as RLE", "targets as masks"])
def case(request) -> Case:
    rng = np.random.default_rng(0)
    shapes = dict(zip(IDS, [(9, 7), (1, 1), (16, 24), (5, 40), (12, 12)], strict=True))
    targets = {name: rng.random(shape) < 0.4 for name, shape in shapes.items()}
    preds = {name: rng.random(shape) < share for (name, shape), share in zip(
        shapes.items(), [0.5, 1.0, 0.0, 0.03, 1.0], strict=True)}  # fmt: skip
    return Case(FakeSplit(targets, as_rle=request.param), preds)


def line(sample_id: Any, mask_HW: np.ndarray, *, plain: bool = False) -> dict[str, Any]:
    rle = masks.encode(mask_HW)
    counts = masks.run_lengths(rle["counts"]).tolist() if plain else rle["counts"].decode("ascii")
    return {"sample_id": sample_id, "rle": {"size": rle["size"], "counts": counts}}


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines))
    return path


def write_pngs(folder: Path, preds: dict[str, np.ndarray], level: int = 255) -> Path:
    folder.mkdir()
    for name, mask_HW in preds.items():
        Image.fromarray(mask_HW.astype(np.uint8) * np.uint8(level)).save(folder / file_name(name), "PNG")
    return folder


def refused(source: Path, dataset: ReferringDataset) -> str:
    with pytest.raises(UserError) as caught:
        count_predictions(source, dataset)
    assert "Nothing was scored" in str(caught.value)
    return str(caught.value)


# ---- Counting without decoding


def _shapes_and_shares() -> list[tuple[int, int, float]]:
    sizes = [(1, 1), (1, 9), (9, 1), (3, 2), (7, 13), (40, 33)]
    return [(height, width, share) for height, width in sizes for share in (0.0, 0.02, 0.3, 0.5, 0.9, 1.0)]


def test_counts_equal_those_of_decoded_masks():
    rng = np.random.default_rng(1)
    sample = FakeSplit({"s": np.zeros((1, 1), bool)}, as_rle=True)[0]
    for height, width, share in _shapes_and_shares():
        for other in (0.0, 0.1, 0.5, 1.0):
            pred_HW, target_HW = rng.random((height, width)) < share, rng.random((height, width)) < other
            single_HW = np.zeros((height, width), bool)
            single_HW[rng.integers(height), rng.integers(width)] = True
            for one_HW, two_HW in [(pred_HW, target_HW), (single_HW, target_HW), (pred_HW, pred_HW)]:
                spans = [masks.spans_of_runs(masks.check_rle(masks.encode(mask_HW))) for mask_HW in (one_HW, two_HW)]
                assert count_spans(sample, (height, width), *spans) == count_pixels(sample, one_HW, two_HW)


def test_a_mask_has_the_same_spans_however_its_runs_are_written():
    rng = np.random.default_rng(2)
    for height, width, share in _shapes_and_shares():
        mask_HW = rng.random((height, width)) < share
        runs = masks.check_rle(masks.encode(mask_HW)).tolist()
        torn = []  # every run in two halves with an empty run of the other colour between them
        for run in runs:
            torn += [run // 2, 0, run - run // 2]
        plain = masks.spans_of_mask(mask_HW)
        for written in (runs, [*runs, 0], [*runs, 0, 0], torn):
            spans = masks.spans_of_runs(np.array(written))
            assert (spans.start_R.tolist(), spans.stop_R.tolist()) == (plain.start_R.tolist(), plain.stop_R.tolist())
        assert plain.area == mask_HW.sum()


def _plain_run_lengths(counts: bytes) -> list[int]:
    """One character after the other, as COCO's C code does; the lengths that the numbers say, or ValueError."""
    runs: list[int] = []
    value = shift = 0
    for char in counts:
        group = char - 48
        if not 0 <= group < 64:
            raise ValueError
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0 or shift > 35:
            raise ValueError
        runs.append(value)
        value = shift = 0
    if shift:
        raise ValueError
    return runs


def test_run_lengths_equal_the_plain_reading_also_of_garbage():
    rng = np.random.default_rng(3)
    alphabet = np.frombuffer(bytes(range(47, 113)), np.uint8)
    verdicts = []
    for _ in range(1000):
        counts = rng.choice(alphabet[: rng.integers(18, len(alphabet) + 1)], size=rng.integers(0, 9)).tobytes()
        try:
            expected = _plain_run_lengths(counts)
        except ValueError:
            with pytest.raises(ValueError, match="run-length counts"):
                masks.run_lengths(counts)
            verdicts.append(False)
        else:
            assert masks.run_lengths(counts).tolist() == expected
            verdicts.append(True)
    assert 100 < sum(verdicts) < 900, "both kinds must be tried"
    for run in (2**31, 2**33):  # the longest that seven groups hold is 2^34 - 1
        text = bytes(48 + ((run >> 5 * place) & 31 | (32 if place < 6 else 0)) for place in range(7))
        assert masks.run_lengths(text).tolist() == [run]


def test_the_readers_run_lengths_are_its_masks(fake_root):
    for split in ("train", "val", "test"):
        dataset = open_split("rrsisd", fake_root, split)
        for index in range(len(dataset)):
            sample = pickle.loads(pickle.dumps(dataset[index]))  # noqa: S301 - samples travel to workers
            np.testing.assert_array_equal(masks.decode(sample.read_rle()), sample.read_mask())


# ---- The same masks, written in every way


def test_every_form_gives_the_same_integers_and_the_same_hash(case, tmp_path):
    preds = case.preds
    expected = [
        count_pixels(sample, preds[sample.sample_id], case.dataset.targets[sample.sample_id])
        for sample in (case.dataset[index] for index in range(len(case.dataset)))
    ]
    sources = [
        write_lines(tmp_path / "a.jsonl", [line(*item) for item in preds.items()]),
        write_lines(tmp_path / "turned.jsonl", [line(*item) for item in reversed(preds.items())]),
        write_lines(tmp_path / "plain.jsonl", [line(*item, plain=True) for item in preds.items()]),
        write_pngs(tmp_path / "png255", preds),
        write_pngs(tmp_path / "png1", preds, level=1),
    ]
    bits = tmp_path / "bits"
    bits.mkdir()
    for name, mask_HW in preds.items():
        Image.fromarray(mask_HW).save(bits / file_name(name), "PNG")
    with PredictionWriter(tmp_path / "new" / "written.jsonl") as writer:
        for index in range(len(case.dataset)):
            writer.add(case.dataset[index], preds[case.dataset[index].sample_id])
    hashes = set()
    for source in [*sources, bits, tmp_path / "new" / "written.jsonl"]:
        table, sha256 = count_predictions(source, case.dataset)
        assert list(table) == expected
        hashes.add(sha256)
    assert len(hashes) == 1


def test_another_pixel_is_another_hash(case, tmp_path):
    hashes = set()
    for number, name in enumerate([None, *case.preds]):
        preds = {key: mask_HW.copy() for key, mask_HW in case.preds.items()}
        if name is not None:
            preds[name][-1, -1] ^= True
        lines = [line(*item) for item in preds.items()]
        hashes.add(count_predictions(write_lines(tmp_path / f"{number}.jsonl", lines), case.dataset)[1])
    assert len(hashes) == 6


def test_file_names_are_percent_encoded():
    assert [file_name(name) for name in IDS] == ["00007.png", "a%2Fb.png", "%E5%9B%BE%201.png", "50%25.png", "...png"]


# ---- What is refused


def _short(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "rle": {**entry["rle"], "counts": entry["rle"]["counts"][:-1]}}


def _with(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**entry, "rle": {**entry["rle"], **changes}}


BAD_LINES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "corrupt counts": (_short, r"'00007' \(line 1\): run"),
    "garbage counts": (lambda entry: _with(entry, counts="~~~"), r"'00007' \(line 1\): .*compressed form"),
    "not ASCII": (lambda entry: _with(entry, counts="é"), r"'00007' \(line 1\): .*ASCII"),
    "runs too long": (lambda entry: _with(entry, counts=[60, 4]), r"'00007' \(line 1\): run lengths cover 64 pixels"),
    "a negative run": (lambda entry: _with(entry, counts=[64, -1]), r"'00007' \(line 1\): run lengths must be"),
    "fractional runs": (lambda entry: _with(entry, counts=[60.0, 3]), r"'00007' \(line 1\): run lengths must be"),
    "booleans": (lambda entry: _with(entry, counts=[62, True]), r"'00007' \(line 1\): run lengths must be"),
    "an empty list": (lambda entry: _with(entry, counts=[]), r"'00007' \(line 1\): run lengths cover 0"),
    "no counts": (lambda entry: {**entry, "rle": {"size": [9, 7]}}, r"'00007' \(line 1\): .*'size' and 'counts'"),
    "a polygon": (lambda entry: {**entry, "rle": [[1, 2, 3, 4]]}, r"'00007' \(line 1\): rle is list"),
    "turned size": (lambda entry: _with(entry, size=[7, 9]), r"'00007' \(line 1\): its mask is 7 x 9, .* 9 x 7"),
    "no size": (lambda entry: _with(entry, size="9x7"), r"'00007' \(line 1\): .*size '9x7'"),
    "no rle": (lambda entry: {"sample_id": entry["sample_id"]}, r"'00007' \(line 1\): .*found 'sample_id'"),
    "another field": (lambda entry: {**entry, "image_id": 3}, r"'00007' \(line 1\): .*'image_id'"),
    "no id": (lambda entry: {"rle": entry["rle"]}, r"missing .*'00007'(.|\n)*line 1: .*found 'rle'"),
    "a number as id": (lambda entry: {**entry, "sample_id": 7}, r"missing .*'00007'(.|\n)*line 1: sample_id is 7"),
    "no object": (lambda entry: [entry], r"missing .*'00007'(.|\n)*line 1: .*found list"),
    "no JSON": (lambda entry: json.dumps(entry)[:-1], r"missing .*'00007'(.|\n)*line 1: not JSON"),
    "deep nesting": (lambda _: "[" * 200_000, r"missing .*'00007'(.|\n)*line 1: not JSON"),
    "an empty line": (lambda _: "", r"missing .*'00007'(.|\n)*line 1: an empty line"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_malformed_line_is_refused_with_its_id_or_number(case, tmp_path, kind):
    spoil, message = BAD_LINES[kind]
    first, *others = [line(*item) for item in case.preds.items()]
    shown = refused(write_lines(tmp_path / "p.jsonl", [spoil(first), *others]), case.dataset)
    assert_matches(shown, message)
    assert all(f"'{name}'" not in shown for name in IDS[1:]), "the others are sound"


def assert_matches(text: str, pattern: str) -> None:
    assert re.search(pattern, text), text


def _wide(path: Path, _: np.ndarray) -> None:
    with Image.open(path) as image:
        image.resize((image.width + 1, image.height), Image.Resampling.NEAREST).save(path)


BAD_FILES: dict[str, tuple[Callable[[Path, np.ndarray], None], str]] = {
    "wrong size": (_wide, "its mask is 9 x 8, expected 9 x 7"),
    "probabilities": (
        lambda path, grey_HW: Image.fromarray((np.indices(grey_HW.shape)[0]).astype(np.uint8)).save(path),
        "grey levels 0, 1, 2, 3 ...",
    ),
    "both 1 and 255": (
        lambda path, grey_HW: Image.fromarray(np.where(np.indices(grey_HW.shape)[0] > 3, grey_HW, 1)).save(path),
        "grey levels 0, 1, 255; expected 0 and 255, or 0 and 1",
    ),
    "colours": (lambda path, grey_HW: Image.fromarray(np.dstack([grey_HW] * 2 + [grey_HW * 0])).save(path), "colours"),
    "16 bits": (lambda path, grey_HW: Image.fromarray(grey_HW.astype(np.uint16)).save(path), "more than 8 bits"),
    "a cut file": (lambda path, _: path.write_bytes(path.read_bytes()[:50]) and None, "cannot be decoded"),
    "a cut head": (lambda path, _: path.write_bytes(path.read_bytes()[:20]) and None, "cannot be decoded"),
    "an empty file": (lambda path, _: path.write_bytes(b"") and None, "0 bytes"),
    "a JPEG": (lambda path, grey_HW: Image.fromarray(grey_HW).save(path, format="JPEG"), "none of TIFF, PNG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_malformed_png_is_refused_with_its_id(case, tmp_path, kind):
    spoil, message = BAD_FILES[kind]
    folder = write_pngs(tmp_path / "png", case.preds)
    spoil(folder / "00007.png", case.preds["00007"].astype(np.uint8) * 255)
    shown = refused(folder, case.dataset)
    assert re.search(rf"'00007' \('00007.png'\): .*{re.escape(message)}", shown), shown
    assert "missing" not in shown


def test_all_problems_are_listed_together(case, tmp_path):
    first, second, third, _, fifth = [line(*item) for item in case.preds.items()]
    stray, wide = line("99999", case.preds["00007"]), line("图 1", np.zeros((24, 16), bool))
    shown = refused(write_lines(tmp_path / "p.jsonl", [first, stray, wide, first, "{", second, fifth]), case.dataset)
    assert "missing (1 samples without a prediction): '50%'\n" in shown
    assert "extra (1 predictions for no sample of the split): '99999' (line 2)\n" in shown
    assert "doubled (1 further predictions of a sample): '00007' (line 1 and line 4)\n" in shown
    assert "'图 1' (line 3): its mask is 24 x 16, expected 16 x 24" in shown
    assert "line 5: not JSON" in shown
    assert third["sample_id"] == "图 1"


def test_a_folder_names_missing_extra_doubled_and_foreign_files(case, tmp_path):
    folder = write_pngs(tmp_path / "png", case.preds)
    (folder / "50%25.png").rename(folder / "stray.png")
    (folder / "%30%30007.png").write_bytes((folder / "00007.png").read_bytes())
    (folder / "notes.txt").write_text("hello")
    (folder / "%ff.png").write_bytes((folder / "00007.png").read_bytes())
    (folder / "deeper").mkdir()
    shown = refused(folder, case.dataset)
    assert "missing (1 samples without a prediction): '50%'" in shown
    assert "'stray' ('stray.png')" in shown
    assert "'00007' ('%30%30007.png' and '00007.png')" in shown
    assert "'notes.txt': not a PNG file" in shown
    assert "'deeper': not a PNG file" in shown
    assert "'%ff.png': the name is not a percent-encoded sample id" in shown


def test_empty_and_absent_predictions_are_refused(case, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    for source in (tmp_path / "empty.jsonl", tmp_path / "folder"):
        shown = refused(source, case.dataset)
        assert "holds no prediction of split 'test' of fake (5 samples)" in shown
        assert all(repr(name) in shown for name in IDS)
    with pytest.raises(UserError, match=r"nowhere\.jsonl cannot be read: No such file"):
        count_predictions(tmp_path / "nowhere.jsonl", case.dataset)


def test_long_lists_are_cut_and_counted(case, tmp_path):
    lines = [line(f"x{number}", case.preds["00007"]) for number in range(1500)]
    shown = refused(write_lines(tmp_path / "p.jsonl", lines), case.dataset)
    assert "extra (1,500 predictions for no sample of the split)" in shown
    assert "and 1,490 more" in shown
    assert len(shown) < 2000


def test_ids_that_cannot_be_printed_are_escaped(case, tmp_path):
    lines = [line(*item) for item in case.preds.items()]
    source = write_lines(tmp_path / "p.jsonl", [*lines, line("\ud800", case.preds["00007"])])
    assert refused(source, case.dataset).encode("utf-8")


# ---- Writing


def test_an_interrupted_file_is_not_left_behind_and_the_old_one_stays(case, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("old")
    with contextlib.suppress(KeyboardInterrupt), PredictionWriter(path) as writer:
        writer.add(case.dataset[0], case.preds["00007"])
        raise KeyboardInterrupt
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("test.jsonl", "old")]


def test_a_disk_that_refuses_is_a_message(case, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be written"), PredictionWriter(tmp_path / "file" / "test.jsonl"):
        pass
    assert case
