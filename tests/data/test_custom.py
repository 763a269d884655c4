import io
import os
import sys

import numpy as np
import pytest

from rrsis_bench import cli
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.verify import print_report
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from tests.fakes.checks import fingerprint, verify
from tests.fakes.custom import DEFECTS, SIZE, write_fake_custom
from tests.fakes.rrsisd import DEFECTS as RRSISD_DEFECTS
from tests.fakes.rrsisd import write_fake_rrsisd


def test_samples_are_what_was_written_in_every_form_of_mask(tmp_path):
    tree = write_fake_custom(tmp_path)
    for split in ("train", "val", "test"):
        dataset = open_split("custom", tmp_path, split)
        assert (dataset.name, dataset.split, dataset.category_names) == ("custom", split, ("ship",))
        assert len(dataset) == 4
        for index, (row, mask_HW) in enumerate(zip(tree.rows[split], tree.masks[split], strict=True)):
            sample = dataset[index]
            assert (sample.sample_id, sample.image_id) == (f"{split}-{index + 1}", row["image"])
            assert (sample.expression, sample.category) == (row["expression"], row.get("category"))
            assert (sample.language, sample.n_targets) == ("en", None)
            np.testing.assert_array_equal(sample.read_mask(), mask_HW)
            assert sample.read_image().shape == (SIZE, SIZE, 3)
            if sample.read_rle is not None:
                np.testing.assert_array_equal(masks.decode(sample.read_rle()), mask_HW)
    with pytest.raises(IndexError):
        dataset[4]


def test_optional_fields_are_taken(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["val"][0] |= {"sample_id": "a/1", "image_id": "scene", "language": "zh", "n_targets": 2}
    tree.rows["val"][1] |= {"expression": "左边的船", "mask": {"size": [4, 6], "polygons": []}, "category": None}
    tree.write()
    first, second = (open_split("custom", tmp_path, "val")[index] for index in (0, 1))
    assert (first.sample_id, first.image_id, first.language, first.n_targets) == ("a/1", "scene", "zh", 2)
    assert (second.language, second.category, second.n_targets) == ("zh", None, 0)
    assert second.read_mask().shape == (4, 6)
    assert not second.read_mask().any()


def test_polygons_are_joined_and_cut_off_at_the_border(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["val"][0]["mask"] = {
        "size": [8, 10],
        "polygons": [[-2, 0, 3, 0, 3, 2, -2, 2], [2, 1, 12, 1, 12, 4, 2, 4]],
    }
    tree.write()
    expected_HW = np.zeros((8, 10), dtype=bool)
    expected_HW[0:2, 0:3] = True
    expected_HW[1:4, 2:10] = True
    np.testing.assert_array_equal(open_split("custom", tmp_path, "val")[0].read_mask(), expected_HW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categroy": "x"}, "unknown field 'categroy'. Did you mean category"),
        ({"image": None}, "'image' is null"),
        ({"image": "/etc/passwd"}, "relative to the dataset's folder"),
        ({"image": "images/../../x.png"}, "relative to the dataset's folder"),
        ({"image": "images\\train1.png"}, "backslashes"),
        ({"image": "images/none.png"}, "images/none.png is missing"),
        ({"expression": 3}, "'expression' is a number"),
        ({"expression": " "}, "no word"),
        ({"language": "de"}, "expected en or zh"),
        ({"n_targets": -1}, "whole number"),
        ({"n_targets": True}, "whole number"),
        ({"sample_id": 7}, "'sample_id' is a number"),
        ({"mask": 1}, "'mask' is a number"),
        ({"mask": {"size": [4, 4]}}, "expected 'size' and 'counts'"),
        ({"mask": {"size": [4, 4], "counts": [3, 4]}}, "cover 7 pixels of a 4 x 4"),
        ({"mask": {"size": [4, 4], "counts": [-1, 17]}}, "whole numbers from 0"),
        ({"mask": {"size": [4, 4], "counts": "zz"}}, "run"),
        ({"mask": {"size": [4], "counts": "4"}}, r"expected \[height, width\]"),
        ({"mask": {"size": [10**6, 10**6], "counts": "4"}}, "more than"),
        ({"mask": {"size": [4, 4], "polygons": [[0, 0, 1, 1, 2]]}}, "odd number of coordinates"),
        ({"mask": {"size": [4, 4], "polygons": [[0, 0, 1e9, 1, 2, 2]]}}, "far outside"),
        ({"mask": {"size": [4, 4], "polygons": [[0, 0, float("nan"), 1, 2, 2]]}}, "not finite"),
        ({"mask": {"size": [4, 4], "polygons": [["a"] * 6]}}, "other than numbers"),
        ({"mask": {"size": [4, 4], "counts": [2, 14]}, "n_targets": 0}, "its mask is not empty"),
    ],
)
def test_every_message_names_file_and_line(tmp_path, change, message):
    tree = write_fake_custom(tmp_path)
    tree.rows["train"][2] |= change
    tree.write()
    with pytest.raises(UserError, match=message) as caught:
        open_split("custom", tmp_path, "train")
    assert "train.jsonl:3: " in str(caught.value)
    assert "data verify custom --data-root" in str(caught.value)


@pytest.mark.parametrize("raw", ["", "[1]", '{"image": "a", "image": "b"}', "[" * 100_000, "{"])
def test_lines_that_are_no_object_are_refused(tmp_path, raw):
    tree = write_fake_custom(tmp_path)
    tree.rows["train"][1] = raw
    tree.write()
    with pytest.raises(UserError, match="train.jsonl:2: it "):
        open_split("custom", tmp_path, "train")


def test_a_symbolic_link_does_not_lead_out_of_the_root(tmp_path):
    tree = write_fake_custom(tmp_path / "data")
    picture = tree.root / "images" / "train2.png"
    picture.rename(tmp_path / "outside.png")
    os.symlink(tmp_path / "outside.png", picture)
    with pytest.raises(UserError, match=r"train\.jsonl:2: images/train2\.png is outside"):
        open_split("custom", tree.root, "train")
    (tree.root / "masks").rename(tmp_path / "masks")
    os.symlink(tmp_path / "masks", tree.root / "masks")
    found = {(finding.kind, finding.where) for finding in verify("custom", tree.root).errors}
    assert ("path_outside", "train.jsonl:2") in found
    assert ("path_outside", "val.jsonl:1") in found


def test_ids_are_unique_over_all_splits_and_an_image_id_names_one_file(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["test"][0]["sample_id"] = "train-2"
    tree.write()
    with pytest.raises(UserError, match=r"test\.jsonl:1: the sample_id 'train-2' is also at train\.jsonl:2"):
        open_split("custom", tmp_path, "val")
    tree.rows["test"][0]["sample_id"] = "other"
    tree.rows["val"][0]["image_id"] = tree.rows["val"][1]["image_id"] = "one"
    tree.write()
    with pytest.raises(UserError, match=r"val\.jsonl:2: the image_id 'one'"):
        open_split("custom", tmp_path, "val")
    assert [(f.kind, f.where) for f in verify("custom", tmp_path).findings] == [("image_id_mismatch", "val.jsonl:2")]


def test_a_missing_dataset_shows_the_layout(tmp_path):
    with pytest.raises(UserError, match="test.jsonl") as caught:
        open_split("custom", tmp_path, "train")
    assert "data.root=" in str(caught.value)
    assert "data convert" in str(caught.value)


def test_the_fingerprint_sees_masks_by_their_pixels(tmp_path):
    tree = write_fake_custom(tmp_path)
    before = fingerprint("custom", tmp_path)
    rle = masks.encode(tree.masks["val"][0])
    tree.rows["val"][0]["mask"] = {"size": rle["size"], "counts": rle["counts"].decode()}  # it was a PNG
    tree.write()
    assert fingerprint("custom", tmp_path) == before
    tree.rows["val"][0]["mask"] = {"size": [SIZE, SIZE], "counts": [SIZE * SIZE]}
    tree.write()
    assert fingerprint("custom", tmp_path) != before


def test_twelve_of_twelve_defects_in_one_pass(tmp_path, capsys):
    tree = write_fake_custom(tmp_path / "broken", defects=DEFECTS)
    report = verify("custom", tree.root)
    assert {(finding.kind, finding.where) for finding in report.findings} == set(tree.defects.items())
    assert len(report.errors) == len(DEFECTS) == 12
    assert cli.main(["data", "verify", "custom", "--data-root", str(tree.root)]) == 1
    clean = write_fake_custom(tmp_path / "clean")
    capsys.readouterr()
    assert cli.main(["data", "verify", "custom", "--data-root", str(clean.root)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_twelve_of_twelve_defects_of_rrsisd(tmp_path):
    errors = [name for name in RRSISD_DEFECTS if name not in ("long_expression", "non_ascii_expression")][:12]
    tree = write_fake_rrsisd(tmp_path, n_train=16, per_image=1, defects=errors)
    report = verify("rrsisd", tmp_path)
    assert {(finding.kind, finding.where) for finding in report.findings} == set(tree.defects.items())
    assert cli.main(["data", "verify", "rrsisd", "--data-root", str(tmp_path)]) == 1


def test_warnings_do_not_stop_a_run(tmp_path):
    tree = write_fake_custom(tmp_path)
    (tmp_path / "images" / "test1.png").write_bytes((tmp_path / "images" / "train1.png").read_bytes())
    tree.rows["val"][0] |= {"language": "zh", "mask": {"size": [3, 5], "counts": [15]}, "n_targets": 1}
    tree.rows["val"][1]["expression"] = "ship " * 61
    tree.write()
    report = verify("custom", tmp_path)
    found = {(finding.kind, finding.where) for finding in report.warnings}
    expected = {"language_differs", "empty_mask", "size_differs"}
    assert found == {(kind, "val.jsonl:1") for kind in expected} | {
        ("long_expression", "val.jsonl:2"), ("shared_image", "test")
    }  # fmt: skip
    assert report.ok
    assert len(open_split("custom", tmp_path, "val")) == 4


def test_a_mask_file_is_checked_against_the_number_of_targets(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["val"][0]["n_targets"] = 0  # its mask is a PNG with pixels
    tree.write()
    assert [(f.kind, f.where) for f in verify("custom", tmp_path).findings] == [("target_mismatch", "val.jsonl:1")]


def test_brackets_in_a_message_are_printed_as_they_are(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["train"][0]["[bold]"] = 1
    tree.write()
    out = io.StringIO()
    print_report(verify("custom", tmp_path), Terminal(file=out, width=200))
    assert "unknown field '[bold]'" in out.getvalue()


def test_a_run_on_defective_data_refuses_before_the_model_is_built(tmp_path, capsys, monkeypatch):
    from rrsis_bench.run import __main__ as run
    from rrsis_bench.run import bench
    from tests.fakes.config import tiny_overrides

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setattr(bench, "build_model", lambda _: pytest.fail("the model was built"))
    tree = write_fake_custom(tmp_path / "broken", defects=DEFECTS)
    overrides = [name for name in tiny_overrides(tmp_path, tree.root) if not name.startswith(("data=", "data.counts"))]
    with pytest.raises(SystemExit) as stop:
        run.main(["data=custom", *overrides])
    assert stop.value.code == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "train.jsonl:" in shown
    assert "data verify custom" in shown
