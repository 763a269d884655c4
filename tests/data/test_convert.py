import json
import os
import pickle
import zipfile
from functools import lru_cache

import numpy as np
import pytest
import torch

from rrsis_bench import cli
from rrsis_bench.backbones.weights import read_tensors
from rrsis_bench.data.formats import SPLITS, open_split, read_index
from rrsis_bench.data.formats.custom.convert import convert
from rrsis_bench.data.formats.rrsisd.dataset import refs_path
from rrsis_bench.errors import UserError
from rrsis_bench.official import load_official
from rrsis_bench.synthetic import SceneSpec, render_scene, synthesize, writer
from tests.fakes.checks import verify
from tests.fakes.custom import write_fake_custom
from tests.fakes.file_list import write_fake_file_list
from tests.fakes.nwpu import write_fake_nwpu
from tests.fakes.rrsisd import write_fake_rrsisd

FIELDS = ("sample_id", "image_id", "expression", "language", "category", "n_targets")


def rrsisd(root):
    return write_fake_rrsisd(root, defects=["empty_mask", "size_differs", "non_ascii_expression"]).root


def custom(root):
    return write_fake_custom(root).root


@pytest.mark.parametrize(("fmt", "write"), [("rrsisd", rrsisd), ("custom", custom)])
def test_what_comes_back_is_the_same(tmp_path, fmt, write):
    root, out = write(tmp_path / "source"), tmp_path / "out"
    done = convert(read_index(fmt, root), out)
    for split in SPLITS:
        before, after = open_split(fmt, root, split), open_split("custom", out, split)
        assert len(before) == len(after) == done.samples[split]
        for one, two in ((before[index], after[index]) for index in range(len(before))):
            assert [getattr(one, name) for name in FIELDS] == [getattr(two, name) for name in FIELDS]
            np.testing.assert_array_equal(one.read_mask(), two.read_mask())
            np.testing.assert_array_equal(one.read_image(), two.read_image())
    assert done.linked == done.images == sum(len(files) for _, _, files in os.walk(out / "images"))


# Twenty scenes each: as they are by default, all in Chinese, and with every option of the scenes.
SCENES = [
    {},
    {"languages": ("zh",), "object_scale": 0.4},
    {"multi_target": 0.3, "no_target": 0.2, "languages": ("en", "zh"), "expressions_per_image": 4},
]
draw = lru_cache(render_scene)  # the formats hold the same scenes


@pytest.mark.parametrize("scenes", SCENES, ids=["default", "chinese", "all options"])
@pytest.mark.parametrize("fmt", ["rrsisd", "refsegrs", "risbench", "nwpu_refer"])
def test_twenty_scenes_of_every_format_come_back_bit_for_bit(tmp_path, monkeypatch, fmt, scenes):
    monkeypatch.setattr(writer, "render_scene", draw)
    spec = SceneSpec(train=14, val=3, test=3, size=96, seed=3, **{"expressions_per_image": 2, **scenes})
    synthesize(spec, tmp_path / "source", fmt, workers=1, progress=False)
    options = {"language": "all"} if fmt == "nwpu_refer" else {}
    convert(read_index(fmt, tmp_path / "source", options), tmp_path / "out")
    languages, targets = set(), set()
    for split in SPLITS:
        before = open_split(fmt, tmp_path / "source", split, options)
        after = open_split("custom", tmp_path / "out", split)
        drawn = [draw(spec, split, index) for index in range(spec.scenes(split))]
        expected = [(each.text, scene.target_HW(each).tobytes()) for scene in drawn for each in scene.expressions]
        assert len(before) == len(after) == len(expected)
        for one, two in ((before[index], after[index]) for index in range(len(before))):
            # Not known in the source, an empty mask of run lengths says it.
            assert two.n_targets == one.n_targets or (one.n_targets is None and not two.read_mask().any())
            assert [getattr(one, name) for name in FIELDS[:-1]] == [getattr(two, name) for name in FIELDS[:-1]]
            np.testing.assert_array_equal(one.read_mask(), two.read_mask())
            np.testing.assert_array_equal(one.read_image(), two.read_image())
            languages.add(two.language)
            targets.add(two.n_targets)
        kept = sorted((two.expression, two.read_mask().tobytes()) for two in (after[i] for i in range(len(after))))
        assert kept == sorted(expected)
    assert languages == set(spec.languages)
    assert (0 in targets) == (spec.no_target > 0)


def test_pictures_are_stored_once_and_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    root = write_fake_rrsisd(tmp_path / "source", per_image=2).root

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    done = convert(read_index("rrsisd", root), tmp_path / "out")
    assert (done.images, done.linked) == (8, 0), "16 references, two to a picture"
    picture = next((tmp_path / "out" / "images" / "train").iterdir())
    assert picture.read_bytes() == (root / "images" / "rrsisd" / "JPEGImages" / picture.name).read_bytes()


def test_two_images_of_one_image_id_are_refused(tmp_path):
    tree = write_fake_file_list("risbench", tmp_path / "source", defects=["image_differs"])
    with pytest.raises(UserError, match="image_id 'train_0'"):
        convert(read_index("risbench", tree.root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_says_what_it_wrote_and_leaves_full_folders_alone(tmp_path, capsys):
    root = write_fake_rrsisd(tmp_path / "source").root
    arguments = [
        "data",
        "convert",
        "rrsisd",
        "--data-root",
        str(root),
        "--to",
        "custom",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "train 8, val 4, test 4 samples on 8 images" in shown
    assert "hard links" in shown
    assert cli.main(["data", "verify", "custom", "--data-root", str(tmp_path / "out")]) == 0
    assert cli.main(arguments) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path):
    tree = write_fake_rrsisd(tmp_path / "source", defects=["unreadable_mask"])
    with pytest.raises(UserError, match="run"):
        convert(read_index("rrsisd", tree.root), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


class Attack:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_hostile_files_are_refused_by_name_and_execute_nothing(tmp_path):
    """A refs(unc).p, a .pth as weights, a .npz where weights or a mask are expected."""
    sentinel = tmp_path / "executed"
    tree = write_fake_rrsisd(tmp_path / "data")
    refs_path(tree.root).write_bytes(pickle.dumps([Attack(sentinel)]))
    for call in (
        lambda: open_split("rrsisd", tree.root, "train"),
        lambda: convert(read_index("rrsisd", tree.root), tmp_path / "out"),
    ):
        with pytest.raises(UserError, match=r"refs\(unc\)\.p"):
            call()
    nwpu = write_fake_nwpu(tmp_path / "nwpu")
    (nwpu.root / nwpu.refs_name).write_bytes(pickle.dumps([Attack(sentinel)]))
    for call in (lambda: open_split("nwpu_refer", nwpu.root, "train"), lambda: verify("nwpu_refer", nwpu.root)):
        with pytest.raises(UserError, match=r"new_refs\(unc\)\.p"):
            call()
    pth = tmp_path / "weights.pth"
    torch.save({"model": Attack(sentinel)}, pth)
    with pytest.raises(UserError, match=r"weights\.pth"):
        load_official("lavt", pth)
    with pytest.raises(UserError, match=r"weights\.pth"):
        read_tensors(pth, "Swin", "swin")
    npz = tmp_path / "weights.npz"
    np.savez(npz, model=np.array([Attack(sentinel)], dtype=object))
    assert "model.npy" in zipfile.ZipFile(npz).namelist()
    with pytest.raises(UserError, match=r"weights\.npz"):
        load_official("lavt", npz)
    with pytest.raises(UserError, match=r"weights\.npz"):
        read_tensors(npz, "Swin", "swin")
    own = write_fake_custom(tmp_path / "own")
    npz.rename(own.root / "masks" / "m.npz")
    own.rows["train"][0]["mask"] = "masks/m.npz"
    own.write()
    with pytest.raises(UserError, match=r"m\.npz"):
        open_split("custom", own.root, "train")[0].read_mask()
    assert not sentinel.exists()
    np.load(own.root / "masks" / "m.npz", allow_pickle=True)["model"]  # the attack works where nothing holds it back
    assert sentinel.exists()


def test_lines_are_plain_json_with_readable_chinese(tmp_path):
    root = rrsisd(tmp_path / "source")
    convert(read_index("rrsisd", root), tmp_path / "out")
    text = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")
    assert "左边的船" in text
    assert {"sample_id", "image", "expression", "mask"} <= set(json.loads(text.splitlines()[0]))


def test_the_verb_hands_the_readers_options_on(tmp_path, capsys):
    root = write_fake_nwpu(tmp_path / "nwpu").root
    command = ["data", "convert", "nwpu_refer", "--data-root", str(root)]
    for name, options in [("en", []), ("all", ["--option", "language=all", "--option", "merge=false"])]:
        assert cli.main([*command, "--out", str(tmp_path / name), *options]) == 0
    counts = {name: [len(open_split("custom", tmp_path / name, split)) for split in SPLITS] for name in ("en", "all")}
    wanted = {"language": "all", "merge": False}
    assert counts["all"] == [len(open_split("nwpu_refer", root, split, wanted)) for split in SPLITS] != counts["en"]
    assert cli.main([*command, "--out", str(tmp_path / "x"), "--option", "language"]) == 2
    assert cli.main([*command, "--out", str(tmp_path / "x"), "--option", "speech=all"]) == 2
    assert "data.options.speech" in capsys.readouterr().err
