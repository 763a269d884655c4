import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.verify import print_report
from rrsis_bench.data.formats.rrsisd.dataset import refs_path
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from tests.fakes.checks import verify
from tests.fakes.custom import write_fake_custom
from tests.fakes.nwpu import write_fake_nwpu
from tests.fakes.rrsisd import DEFECTS, write_fake_rrsisd

WARNINGS = {"size_differs", "empty_mask", "shared_image", "long_expression", "non_ascii_expression", "count"}
COUNTS = {"train": 24, "val": 4, "test": 4}


def test_a_sound_tree_has_no_finding(tmp_path):
    write_fake_rrsisd(tmp_path, n_train=24)
    report = verify("rrsisd", tmp_path, COUNTS)
    assert report.findings == []
    assert report.ok
    assert report.index.counts == COUNTS


def test_every_defect_is_listed_in_one_pass(tmp_path):
    tree = write_fake_rrsisd(tmp_path, n_train=24, per_image=1, defects=DEFECTS)
    report = verify("rrsisd", tmp_path)
    found = {(finding.kind, finding.where) for finding in report.findings}
    assert found == set(tree.defects.items())
    for finding in report.findings:
        assert finding.severity == ("warning" if finding.kind in WARNINGS else "error"), finding
    assert not report.ok


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_alone_gives_its_own_finding_only(tmp_path, defect):
    tree = write_fake_rrsisd(tmp_path, per_image=1, defects=[defect])
    report = verify("rrsisd", tmp_path)
    assert [(finding.kind, finding.where) for finding in report.findings] == [(defect, tree.defects[defect])]
    assert report.ok == (defect in WARNINGS)


def test_other_counts_are_warnings(tmp_path):
    write_fake_rrsisd(tmp_path, n_train=8, n_val=4, n_test=4)
    report = verify("rrsisd", tmp_path, {"train": 8, "val": 5, "test": 4})
    assert [(f.severity, f.kind, f.where) for f in report.findings] == [("warning", "count", "val")]
    assert "4 samples" in report.findings[0].message
    assert report.ok
    more = verify("rrsisd", tmp_path, {"train": 7, "val": 4, "test": 4})
    assert [(f.kind, f.where) for f in more.findings] == [("count", "train")]


def test_width_and_height_are_not_confused(tmp_path):
    tree = write_fake_rrsisd(tmp_path)
    for ref, size in ((tree.refs[0], (80, 64)), (tree.refs[1], (64, 80))):
        Image.new("RGB", size).save(tree.image(ref))
        rle = masks.encode(np.eye(64, 80, dtype=bool))  # 64 high, 80 wide
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        tree.instances["annotations"][ref["ref_id"]]["segmentation"] = [segmentation]
    tree.write()
    assert [(f.kind, f.where) for f in verify("rrsisd", tmp_path).findings] == [("size_differs", "00001")]


def test_shared_pictures_are_counted(tmp_path):
    """Two test samples of one picture, and the picture is copied from train: two samples, one picture."""
    tree = write_fake_rrsisd(tmp_path, per_image=2)
    source = tree.image(tree.refs[0]).read_bytes()
    for ref in [ref for ref in tree.refs if ref["split"] == "test"][:2]:
        tree.image(ref).write_bytes(source)
    (finding,) = verify("rrsisd", tmp_path).findings
    assert (finding.kind, finding.where) == ("shared_image", "test")
    assert "2 samples show 1 images" in finding.message


@pytest.mark.parametrize("cut", [1, 30, 300])
def test_a_picture_cut_anywhere_is_found(tmp_path, cut):
    tree = write_fake_rrsisd(tmp_path)
    path = tree.image(tree.refs[0])
    path.write_bytes(path.read_bytes()[:cut])
    assert [(f.kind, f.where) for f in verify("rrsisd", tmp_path).findings] == [("truncated_image", "00000")]


def test_the_printed_report_names_counts_and_verdict(tmp_path):
    write_fake_rrsisd(tmp_path, n_train=24, per_image=1, defects=DEFECTS)
    out = io.StringIO()
    console = Terminal(file=out, width=120)
    report = verify("rrsisd", tmp_path, {"train": 999}, console=console)
    print_report(report, console, per_kind=1)
    text = out.getvalue()
    for defect in DEFECTS:
        assert defect in text
    assert "999" in text
    assert "not usable" in text
    assert f"{len(report.errors)} errors, {len(report.warnings)} warnings" in text


def test_long_lists_are_cut_but_counted(tmp_path):
    tree = write_fake_rrsisd(tmp_path, n_train=8)
    for ref in tree.refs[:8]:
        tree.image(ref).unlink()
    out = io.StringIO()
    print_report(verify("rrsisd", tmp_path), Terminal(file=out, width=120), per_kind=3)
    assert out.getvalue().count("is missing") == 3
    assert "5 more of kind missing_image" in out.getvalue()


def test_what_cannot_be_checked_at_all_is_one_message(tmp_path):
    with pytest.raises(UserError, match="data.root="):
        verify("rrsisd", tmp_path)
    with pytest.raises(UserError, match="Did you mean rrsisd"):
        verify("rrsis_d", tmp_path)
    write_fake_rrsisd(tmp_path)
    refs_path(tmp_path).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"os\.system|posix\.system"):
        verify("rrsisd", tmp_path)


@pytest.mark.parametrize("write", [write_fake_rrsisd, write_fake_nwpu, write_fake_custom])
def test_the_check_does_not_import_torch(tmp_path, write):
    write(tmp_path)
    fmt = {write_fake_rrsisd: "rrsisd", write_fake_nwpu: "nwpu_refer", write_fake_custom: "custom"}[write]
    code = (
        "import sys; from rrsis_bench.data.checks.verify import verify; "
        "from rrsis_bench.data.formats import read_index; "
        f"assert verify(read_index({fmt!r}, {str(tmp_path)!r})).ok; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
