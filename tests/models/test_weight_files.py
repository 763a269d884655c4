"""Checkpoints as people have them: what a file is that holds no weights, and every usual way to save a state dict."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rrsis_bench.backbones.weights import read_tensors
from rrsis_bench.errors import UserError
from rrsis_bench.official import read_official

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
PARTS = {"model": ""}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return target.getvalue()


def read_both(path):
    for found in (read_official(path, PARTS), read_tensors(path, "Swin", "vision.weights")):
        yield {key: value.tolist() for key, value in found.items()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>Quota exceeded</html>", "HTML page"),
        (b"<html>404</html>", "HTML page"),
        (POINTER, "Git LFS pointer"),
        (tar(), "tar archive"),
        (b"\x1f\x8b\x08gzip", "archive"),
        (b'{"error": "not found"}', "JSON"),
        (b"", "is empty"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"PK\x03\x04 a torn zip", "checkpoint"),
        (b"\x80\x02}q\x00.", "checkpoint"),
        (b"no weights at all", "checkpoint"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged"),
    ],
    ids=["page", "page2", "lfs", "tar", "gzip", "json", "empty", "hdf5", "zip", "pickle", "text", "safetensors"],
)
def test_what_a_file_is_that_holds_no_weights(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    for read in (lambda: read_official(path, PARTS), lambda: read_tensors(path, "Swin", "vision.weights")):
        with pytest.raises(UserError) as caught:
            read()
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "weights_only" not in str(caught.value)


def test_a_folder_is_named_as_one(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(UserError, match=r"is a folder \(model.pth\)"):
        read_official(tmp_path, PARTS)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict", "module"])
def test_every_usual_way_to_save_a_state_dict(tmp_path, prefix, wrapper):
    path = tmp_path / "weights.pth"
    state = {prefix + key: value for key, value in TENSORS.items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    expected = {key: value.tolist() for key, value in TENSORS.items()}
    assert list(read_both(path)) == [expected, expected]


def test_safetensors_under_any_name(tmp_path):
    path = tmp_path / "weights.pth"
    save_file(TENSORS, path)
    expected = {key: value.tolist() for key, value in TENSORS.items()}
    assert list(read_both(path)) == [expected, expected]


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)], ids=str)
def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path, value):
    path = tmp_path / "weights.pth"
    torch.save({"model": TENSORS, "best_iou": value}, path)
    assert read_official(path, PARTS).keys() == TENSORS.keys()


def test_code_is_refused_by_name_without_advice_to_run_it(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": TENSORS, "x": io.StringIO()}, path)
    with pytest.raises(UserError) as caught:
        read_official(path, PARTS)
    assert "StringIO" in str(caught.value)
    assert "weights_only" not in str(caught.value)
