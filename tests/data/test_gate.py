"""A run is refused before its model is built where the check of its dataset finds an error, and only there."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from rrsis_bench.config.cards import data_config
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks import gate
from rrsis_bench.data.checks.gate import require_verified
from rrsis_bench.data.formats import read_index
from rrsis_bench.data.formats.index import SHOWN
from rrsis_bench.data.pixels import images
from rrsis_bench.errors import UserError
from rrsis_bench.run.data import OpenData
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.record import dataset_card
from tests.fakes import custom, file_list, nwpu, rrsisd
from tests.fakes.checks import verify
from tests.fakes.config import parsed

RRSISD_WARNINGS = ("size_differs", "empty_mask", "shared_image", "long_expression", "non_ascii_expression")


def write(fmt: str, root: Path, defect: str | None = None):
    """A fake tree with one defect, and what its refusal has to name."""
    defects = [] if defect is None else [defect]
    if fmt == "rrsisd":
        tree = rrsisd.write_fake_rrsisd(root, per_image=1, defects=defects)
        where = tree.defects.get(defect, "")
        return tree, rf"\b0*{int(where)}\b" if where.isdecimal() else where
    if fmt == "nwpu_refer":
        tree = nwpu.write_fake_nwpu(root, defects=defects)
        return tree, tree.defects[defect][1] if defects else ""
    if fmt == "custom":
        tree = custom.write_fake_custom(root, defects=defects)
        return tree, tree.defects.get(defect, "").replace(":", "(:|, line )")
    tree = file_list.write_fake_file_list(fmt, root, defects=defects)
    return tree, tree.defects.get(defect, "").removesuffix(".png").replace(":", "(:|, line )")


def cases(errors: bool) -> list[tuple[str, str]]:
    found = [("rrsisd", name) for name in rrsisd.DEFECTS if (name not in RRSISD_WARNINGS) == errors]
    found += [("nwpu_refer", name) for name in (nwpu.ERRORS if errors else nwpu.WARNINGS)]
    found += [("custom", name) for name in (custom.DEFECTS if errors else ())]
    for fmt in file_list.FILE_LISTS:
        found += [(fmt, name) for name, error in file_list.DEFECTS.items() if error == errors]
    return found


def start(fmt: str, tmp_path: Path, console: Terminal | None = None) -> OpenData:
    """What `bench` and `evaluate` do before they build the model."""
    overrides = [f"data.root={tmp_path / 'data'}", "data.counts=null", f"runs={tmp_path / 'runs'}"]
    return OpenData.open(parsed(f"data={fmt}", *overrides), console or Terminal(file=io.StringIO()))


@pytest.mark.parametrize(("fmt", "defect"), cases(errors=True))
def test_every_error_is_refused_and_named(tmp_path, fmt, defect):
    _, where = write(fmt, tmp_path / "data", defect)
    assert verify(fmt, tmp_path / "data").errors
    with pytest.raises(UserError, match=where) as caught:
        start(fmt, tmp_path)
    assert f"data verify {fmt} --data-root {tmp_path / 'data'}" in str(caught.value)


@pytest.mark.parametrize(("fmt", "defect"), cases(errors=False))
def test_a_warning_stops_nothing_and_is_counted(tmp_path, fmt, defect):
    write(fmt, tmp_path / "data", defect)
    out = io.StringIO()
    start(fmt, tmp_path, Terminal(file=out, width=300))
    report = verify(fmt, tmp_path / "data")
    assert not report.errors
    assert f"{fmt}: checked and usable, with {len(report.warnings)} warnings" in out.getvalue()


def duplicate_annotation(tree):
    tree.instances["annotations"].append(dict(tree.instances["annotations"][0]))


def other_picture(tree):
    tree.instances["annotations"][0]["image_id"] += 1


def unknown_split(tree):
    tree.refs[0]["split"] = "testA"


@pytest.mark.parametrize("change", [duplicate_annotation, other_picture, unknown_split])
def test_rrsisd_is_refused_for_what_its_fake_cannot_seed(tmp_path, change):
    tree, _ = write("rrsisd", tmp_path / "data")
    change(tree)
    tree.write()
    assert len(verify("rrsisd", tmp_path / "data").errors) == 1
    with pytest.raises(UserError, match="data verify rrsisd"):
        start("rrsisd", tmp_path)


def require(fmt: str, root: Path, cache: Path, console: Terminal | None = None) -> None:
    require_verified(read_index(fmt, root), cache, console)


@pytest.mark.parametrize("fmt", ["rrsisd", "refsegrs", "nwpu_refer", "custom"])
def test_what_passed_is_checked_again_only_after_a_file_changed(tmp_path, monkeypatch, fmt):
    tree, _ = write(fmt, tmp_path / "data")
    checked = []
    check = gate.verify
    monkeypatch.setattr(gate, "verify", lambda *arguments, **named: checked.append(1) or check(*arguments, **named))
    cache = tmp_path / "cache"
    for _ in range(2):
        require(fmt, tree.root, cache)
    assert len(checked) == 1
    picture = next(path for path in sorted(tree.root.rglob("*")) if path.suffix in images_of[fmt])
    stat = picture.stat()
    picture.write_bytes(picture.read_bytes()[: stat.st_size // 2])
    for _ in range(2):
        with pytest.raises(UserError, match=re.escape(picture.name)):
            require(fmt, tree.root, cache)
    assert len(checked) == 3, "what failed is not remembered"
    Image.new("RGB", (24, 24)).save(picture)
    os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    require(fmt, tree.root, cache)
    monkeypatch.setattr(gate, "CHECKS", gate.CHECKS + 1)
    require(fmt, tree.root, cache)
    assert len(checked) == 5, "a newer check looks again"
    assert len(list(cache.iterdir())) == 1


images_of = {"rrsisd": {".jpg"}, "refsegrs": {".tif"}, "nwpu_refer": {".jpg"}, "custom": {".png"}}


def test_a_changed_mask_file_is_noticed(tmp_path):
    for fmt, name in (("custom", "train1.png"), ("refsegrs", "1361.tif")):
        tree, _ = write(fmt, tmp_path / fmt)
        require(fmt, tree.root, tmp_path / "cache")
        (tree.root / "masks" / name).write_bytes(b"")
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            require(fmt, tree.root, tmp_path / "cache")


def test_two_datasets_do_not_share_what_passed(tmp_path):
    for name in ("one", "two"):
        write("rrsisd", tmp_path / name)
        require("rrsisd", tmp_path / name, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_many_errors_are_counted_by_kind(tmp_path):
    tree = rrsisd.write_fake_rrsisd(tmp_path / "data", n_train=40, per_image=1)
    for ref in tree.refs[:30]:
        tree.image(ref).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        require("rrsisd", tree.root, tmp_path / "cache")
    message = str(caught.value)
    assert "has 30 errors" in message
    assert message.count("has 0 bytes") == SHOWN
    assert "and 10 more of kind empty_image" in message


def test_pictures_are_decoded_once_not_at_every_start(tmp_path, monkeypatch):
    write("rrsisd", tmp_path / "data")
    decoded = []
    check = images.check_image
    monkeypatch.setattr(images, "check_image", lambda path: decoded.append(path) or check(path))
    for _ in range(3):
        start("rrsisd", tmp_path)
    assert len(decoded) == 16


def plan_of(tmp_path: Path, *overrides: str) -> RunPlan:
    write("rrsisd", tmp_path / "data")
    roots = [f"data.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"]
    return RunPlan.prepare(parsed("data=rrsisd", "size=tiny", *roots, *overrides), Terminal(file=io.StringIO()))


def test_the_record_carries_the_datasets_card(tmp_path):
    card, written = dataset_card(plan_of(tmp_path)), data_config("rrsisd").card
    assert card
    assert written
    assert (card.title, card.source, card.licence, card.citation) == (
        written.title, written.source, written.licence, written.bibtex
    )  # fmt: skip
    assert card.samples == {"train": 12181, "val": 1740, "test": 3481}, "as published, not as in this copy"
    assert len(card.defects) == len(written.defects) > 3
    assert not any("\n" in defect for defect in card.defects)


def test_a_card_without_published_sizes_has_those_of_the_copy(tmp_path):
    card = dataset_card(plan_of(tmp_path, "data.counts=null", "limit.train=3"))
    assert card.samples == {"train": 8, "val": 4, "test": 4}
    assert dataset_card(plan_of(tmp_path, "data.card=null")) is None
