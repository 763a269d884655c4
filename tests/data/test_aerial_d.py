"""Aerial-D: XML with run lengths, several expressions of three kinds per target, no test split."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rrsis_bench.config.compose import compose_config
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.fingerprint import fingerprint
from rrsis_bench.data.checks.verify import verify
from rrsis_bench.data.formats import open_split, read_index
from rrsis_bench.data.formats.aerial_d import columns, dataset
from rrsis_bench.data.formats.aerial_d.annotations import mask_of, parse
from rrsis_bench.data.formats.aerial_d.columns import STORE
from rrsis_bench.data.formats.index import DIFFERS
from rrsis_bench.errors import UserError
from rrsis_bench.run.data import OpenData
from rrsis_bench.synthetic import SceneSpec, synthesize
from tests.fakes.aerial_d import annotation, counts_of, element, mask_of_counts, write_large

SECONDS, MEGABYTES = 20.0, 1024

COUNTS = counts_of(4)
SAID = [
    ("original", "the plane"), ("original", "the light plane"), ("enhanced", "the aircraft"), ("unique", "the jet"),
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """Three patches in train, one in val; empty images."""
    objects = [element("object", 1, "plane", COUNTS[1], SAID), element("object", 2, "ship", COUNTS[2], SAID[:1])]
    groups = [element("group", 1_000_000, "plane", COUNTS[3], [("unique", "all planes &amp; more")])]
    content = {
        "train": {"P0001_patch_000001": (objects, groups), "L0_patch_0": (objects[:1], []), "L1_patch_0": ([], [])},
        "val": {"P0002_patch_000003": ([], groups)},
    }
    for split, patches in content.items():
        (tmp_path / split / "annotations").mkdir(parents=True)
        (tmp_path / split / "images").mkdir()
        for stem, targets in patches.items():
            (tmp_path / split / "annotations" / f"{stem}.xml").write_text(annotation(stem, *targets))
            (tmp_path / split / "images" / f"{stem}.png").touch()
    return tmp_path


def kinds(index, severity):
    return {(finding.kind, finding.where) for finding in index.findings if finding.severity == severity}


def edit(root, old, new, split="train", stem="P0001_patch_000001"):
    path = root / split / "annotations" / f"{stem}.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_one_expression_of_each_kind_per_target_is_a_sample(root):
    train = open_split("aerial_d", root, "train")
    assert [(sample.sample_id, sample.expression) for sample in train] == [
        ("L0_patch_0-1-original", "the plane"), ("L0_patch_0-1-enhanced", "the aircraft"),
        ("L0_patch_0-1-unique", "the jet"), ("P0001_patch_000001-1-original", "the plane"),
        ("P0001_patch_000001-1-enhanced", "the aircraft"), ("P0001_patch_000001-1-unique", "the jet"),
        ("P0001_patch_000001-2-original", "the plane"),
        ("P0001_patch_000001-1000000-unique", "all planes & more"),
    ]  # fmt: skip
    sample = train[7]
    assert (sample.category, sample.n_targets, sample.image_id) == ("plane", 3, "P0001_patch_000001")
    assert sample.image_path == str(root / "train" / "images" / "P0001_patch_000001.png")
    np.testing.assert_array_equal(sample.read_mask(), mask_of_counts(COUNTS[3]))
    np.testing.assert_array_equal(train[6].read_mask(), mask_of_counts(COUNTS[2]))
    assert (train[6].category, train[6].n_targets) == ("ship", 1)
    assert train.category_names == ("plane", "ship")


def test_all_expressions_or_some_kinds_can_be_chosen(root):
    every = open_split("aerial_d", root, "train", {"expressions": "all"})
    assert [sample.sample_id for sample in every][:2] == ["L0_patch_0-1-original", "L0_patch_0-1-original-1"]
    assert len(every) == 10
    unique = open_split("aerial_d", root, "train", {"kinds": ["unique"]})
    assert {sample.expression for sample in unique} == {"the jet", "all planes & more"}
    for options in ({"expressions": "some"}, {"kinds": "unique"}, {"kinds": []}, {"kinds": ["long"]}):
        with pytest.raises(UserError, match="data.options"):
            read_index("aerial_d", root, options)


def test_there_is_no_test_split_and_that_is_no_defect(root):
    index = read_index("aerial_d", root)
    assert not kinds(index, "error")
    with pytest.raises(UserError, match=r"no test split.*splits=\[val\]"):
        open_split("aerial_d", root, "test")


def test_a_run_that_would_score_test_says_so_at_once(root, tmp_path):
    chosen = ["data=aerial_d", "size=tiny", f"data.root={root}", f"runs={tmp_path / 'runs'}"]
    with pytest.raises(UserError, match=r"splits=\[val\]"):
        OpenData.open(compose_config(chosen), Terminal())


def test_what_differs_from_the_description_is_named(root):
    (root / "val" / "annotations" / "D7_patch_0.xml").write_text(annotation("D7_patch_0", [], []))
    edit(root, 'type="enhanced"', 'type="shouted"')
    found = {finding.where: finding.message for finding in read_index("aerial_d", root).findings}
    assert found["train patches"] == "3, the authors count 27,480"
    assert found["val expressions"] == "1, the authors count 404,729"
    assert found["categories"] == "2 (plane, ship), the authors count 21"
    assert found["val files"].startswith("1 patches begin with D")
    assert found["train kinds"].startswith("1 expressions are of the kind 'shouted'")
    assert {finding.kind for finding in read_index("aerial_d", root).findings} == {DIFFERS}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "not XML"),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "document type"),
        ("<id>2</id>", "<id>two</id>", "object two: <id> is 'two'"),
        ("<id>2</id>", "<id>1</id>", "two of its targets have the id 1"),
        ("<name>ship</name>", "", "object 2 has neither"),
        ("'counts'", "'runs'", "object 1: <segmentation> is not"),
        ("{'size'", "__import__('os').system('true') or {'size'", "<segmentation> is not"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_read(root, old, new, message):
    edit(root, old, new)
    index = read_index("aerial_d", root)
    (finding,) = (finding for finding in index.findings if finding.severity == "error")
    assert (finding.kind, finding.where) == ("unreadable_annotation", "P0001_patch_000001.xml")
    assert message in finding.message
    assert len(index.rows["train"]) == 3
    with pytest.raises(UserError, match="unreadable_annotation"):
        open_split("aerial_d", root, "train")
    assert len(open_split("aerial_d", root, "val")) == 1


def test_a_mask_is_checked_when_it_is_read(root):
    edit(root, COUNTS[2].replace("<", "&lt;")[-6:], "")
    sample = open_split("aerial_d", root, "train")[6]
    with pytest.raises(UserError, match="P0001_patch_000001-2"):
        sample.read_mask()
    report = verify(read_index("aerial_d", root))
    assert ("unreadable_mask", "P0001_patch_000001-2") in {(f.kind, f.where) for f in report.errors}


def test_missing_images_and_patches_of_two_splits_are_errors(root):
    (root / "train" / "images" / "L0_patch_0.png").unlink()
    for name in ("annotations/L1_patch_0.xml", "images/L1_patch_0.png"):
        (root / "val" / name).write_bytes((root / "train" / name).read_bytes())
    found = kinds(read_index("aerial_d", root), "error")
    assert found == {("missing_image", "L0_patch_0"), ("id_in_two_splits", "L1_patch_0")}


def test_a_copy_one_folder_deeper_is_read_and_a_missing_one_is_described(root, tmp_path):
    deeper = tmp_path / "unpacked" / "aeriald"
    deeper.mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).rename(deeper / split)
    assert len(read_index("aerial_d", tmp_path / "unpacked").rows["train"]) == 8
    with pytest.raises(UserError, match=r"luisml77/aerial-d"):
        read_index("aerial_d", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "{'size': [4, 6], 'counts': '4\\\\5'}",
        '{"size": (4, 6), "counts": b"4\\\\5"}',
        " {'counts': '4\\\\5', 'size': [4, 6]}",
    ],
)
def test_every_spelling_of_a_mask_s_dict_is_read(text):
    assert mask_of(text) == ((4, 6), b"4\\5")


def test_lists_of_kinds_in_elements_of_their_own_are_read():
    """As the authors' description of an earlier version has them."""
    text = element("object", 1, "plane", COUNTS[1], []).replace(
        "</expressions>",
        "<expression>a</expression></expressions><enhanced_expressions><e>b</e></enhanced_expressions>"
        "<unique_expressions><e>c</e></unique_expressions>",
    )
    _, (target,) = parse(annotation("P1", [text], []).encode())
    assert target.expressions == (("original", "a"), ("enhanced", "b"), ("unique", "c"))


# Stored columns


def test_the_second_opening_does_not_parse_and_finds_the_same(root, monkeypatch):
    edit(root, "<id>2</id>", "<id>two</id>")
    first = read_index("aerial_d", root)
    monkeypatch.setattr(dataset, "parse", None)
    second = read_index("aerial_d", root)
    assert list(second.all_rows()) == list(first.all_rows())
    assert second.findings == first.findings


def test_a_changed_file_is_parsed_again(root):
    read_index("aerial_d", root)
    edit(root, "the light plane", "the large plane")
    assert open_split("aerial_d", root, "train", {"expressions": "all"})[5].expression == "the large plane"


@pytest.mark.parametrize("damage", ["cut", "other", "text"])
def test_damaged_columns_are_made_again(root, damage):
    expected = list(read_index("aerial_d", root).all_rows())
    path = root / STORE / "train.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("no archive")
    else:  # arrays of another split under this one's signature
        found = dict(np.load(path))
        found["target_E"] = found["target_E"] + 100
        np.savez(path, **found)
    assert list(read_index("aerial_d", root).all_rows()) == expected


def test_a_folder_that_cannot_be_written_to_is_parsed_each_time(root, monkeypatch):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(columns, "replacing", refuse)
    assert len(read_index("aerial_d", root).rows["train"]) == 8
    assert not list((root / STORE).glob("*.npz"))


def test_rows_are_a_sequence_and_travel_to_worker_processes(root):
    index = read_index("aerial_d", root)
    rows = pickle.loads(pickle.dumps(index.rows["train"]))  # noqa: S301 - our own bytes
    assert rows[1:3] == [rows[1], rows[2]] == list(rows)[1:3]
    assert rows[-1] == rows[7]
    with pytest.raises(IndexError):
        rows[8]


# A synthetic copy


def test_a_synthetic_copy_is_sound_and_its_kinds_word_the_same_target(tmp_path):
    spec = SceneSpec(train=2, val=1, test=0, size=96, expressions_per_image=2, seed=0, multi_target=0.5)
    synthesize(spec, tmp_path / "out", "aerial_d", workers=1, progress=False)
    index = read_index("aerial_d", tmp_path / "out")
    report = verify(index)
    assert report.ok, report.errors
    assert len(fingerprint(index)) == 64
    rows = index.rows["train"]
    assert {row.sample_id.split("-")[2] for row in rows} == {"original", "enhanced", "unique"}
    by_target = {}
    for row in rows:
        by_target.setdefault(row.where, set()).add(row.mask.identity())
    assert all(len(masks) == 1 for masks in by_target.values())
    assert open_split("aerial_d", tmp_path / "out", "train")[0].read_image().shape == (96, 96, 3)


@pytest.mark.parametrize(("options", "message"), [({"test": 1}, "no test split"), ({"no_target": 1.0}, "no_target=0")])
def test_scenes_that_the_format_cannot_hold_are_refused(tmp_path, options, message):
    spec = SceneSpec(**{"train": 1, "val": 1, "test": 0, "size": 96, "expressions_per_image": 2, "seed": 0} | options)
    with pytest.raises(UserError, match=message):
        synthesize(spec, tmp_path / "out", "aerial_d", workers=1, progress=False)


# A copy of full size

_OPEN = """
import sys, time
from pathlib import Path
import rrsis_bench.run.plan
from rrsis_bench.data.formats import format_module, read_index
from rrsis_bench.data.formats.dataset import IndexedDataset
format_module("aerial_d")
start = time.process_time()
index = read_index("aerial_d", Path(sys.argv[1]), {"expressions": sys.argv[2]})
opened = {split: IndexedDataset(index, split) for split in ("train", "val")}
opened["train"][1000]
seconds = time.process_time() - start
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(len(opened["train"]), len(opened["val"]), seconds, peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_copy_of_full_size_opens_in_time_and_memory(tmp_path):
    """37,288 files with 1,522,523 expressions: the work of this process, parsed and stored, and its peak memory."""
    write_large(tmp_path, {"train": 27_480, "val": 9_808}, {"train": 1_117_794, "val": 404_729})
    for expressions, n in (("one_per_kind", 600_000), ("all", 1_117_794)):
        command = [sys.executable, "-c", _OPEN, os.fspath(tmp_path), expressions]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
        train, _, seconds, megabytes = map(float, done.stdout.split())
        assert abs(train - n) < 100_000 if expressions == "one_per_kind" else train == n
        assert seconds < SECONDS, f"{expressions}: {seconds:.1f} s"
        assert megabytes < MEGABYTES, f"{expressions}: {megabytes:.0f} MB"
