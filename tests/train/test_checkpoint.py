"""Checkpoints appear whole or not at all, damage is found before anything is loaded, and a full disk hurts nothing."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch

from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.train import checkpoint
from rrsis_bench.weight_files import read_content
from tests.fakes.toy import Toy


def content(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"weight": torch.full((40, 5), value), "steps": torch.tensor(3)},
        "optimizer": {"0.exp_avg": torch.full((40, 5), value / 2)},
        "rng": {"torch": torch.get_rng_state()},
    }


def save(root: Path, step: int, value: float | None = None) -> Path:
    return checkpoint.save(root, step, content(step if value is None else value), {"note": f"step {step}"})


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    path = save(tmp_path, 12, 0.1)
    found = checkpoint.load(path)
    assert (found.step, found.state, found.path) == (12, {"note": "step 12"}, path)
    for part, tensors in content(0.1).items():
        assert set(found.tensors[part]) == set(tensors)
        assert part == "rng" or all(torch.equal(found.tensors[part][name], tensors[name]) for name in tensors)
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {"model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"}


def test_views_and_transposes_are_saved_as_they_look(tmp_path):
    tensor = torch.arange(12.0).view(3, 4)
    path = checkpoint.save(tmp_path, 1, {"model": {"turned": tensor.t(), "row": tensor[1]}}, {})
    found = checkpoint.load(path).tensors["model"]
    assert torch.equal(found["turned"], tensor.t())
    assert torch.equal(found["row"], tensor[1])


def test_an_error_while_writing_leaves_no_visible_folder(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, 2, content(), {"no json": object()})
    assert visible(tmp_path) == ["step-00000001"]
    assert checkpoint.latest(tmp_path)[0].step == 1


def test_a_killed_writers_leftover_is_neither_loaded_nor_kept_nor_in_the_way(tmp_path):
    save(tmp_path, 1)
    for pid in (os.getpid(), 77):  # process ids come again, in containers at once
        leftover = tmp_path / f".step-00000002.{pid}.tmp"
        leftover.mkdir()
        (leftover / "model.safetensors").write_bytes(b"half")
    assert checkpoint.latest(tmp_path)[0].step == 1
    save(tmp_path, 2)
    checkpoint.prune(tmp_path, keep=set())
    assert visible(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", [0.0, 0.01, 0.5, 0.99, "flip", "gone"])
def test_damage_is_found_and_the_one_before_is_taken(tmp_path, file, damage):
    save(tmp_path, 5)
    path = save(tmp_path, 10) / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        if damage == "flip":
            data[len(data) // 2] ^= 0x10
        else:
            data = data[: int(damage * len(data))]
        path.write_bytes(bytes(data))
    found, notes = checkpoint.latest(tmp_path)
    assert found.step == 5
    assert torch.equal(found.tensors["model"]["weight"], torch.full((40, 5), 5.0))
    assert len(notes) == 1
    assert "step-00000010 is damaged" in notes[0]
    with pytest.raises(UserError, match="step-00000010 is damaged"):
        checkpoint.load(path.parent)


def test_nothing_undamaged_left_is_none_with_a_line_each(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / "model.safetensors").write_bytes(b"")
    found, notes = checkpoint.latest(tmp_path)
    assert found is None
    assert len(notes) == 2
    assert checkpoint.latest(tmp_path / "nowhere") == (None, [])
    with pytest.raises(UserError, match="no checkpoint folder"):
        checkpoint.load(tmp_path / "nowhere")


def raise_enospc(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["write", "text", "fsync", "replace", "mkdir"])
def test_a_full_disk_is_a_message_and_the_previous_one_stays(tmp_path, monkeypatch, where):
    save(tmp_path, 1)
    with monkeypatch.context() as broken:
        if where == "write":
            broken.setattr(checkpoint, "save_file", raise_enospc)
        elif where == "text":
            broken.setattr(Path, "write_text", raise_enospc)
        elif where == "mkdir":
            broken.setattr(Path, "mkdir", raise_enospc)
        else:
            broken.setattr(os, where, raise_enospc)
        with pytest.raises(UserError, match=r"could not be written: No space left.*intact.*runs="):
            save(tmp_path, 2)
    assert visible(tmp_path) == ["step-00000001"]
    assert checkpoint.latest(tmp_path)[0].step == 1
    save(tmp_path, 2)
    assert checkpoint.latest(tmp_path)[0].step == 2


def test_what_the_disk_refuses_to_safetensors_is_the_same_message(tmp_path):
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # no file may grow past 500 bytes
    try:
        with pytest.raises(UserError, match="could not be written: .*File too large"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible(tmp_path) == ["step-00000001"]


def test_the_same_step_again_replaces_it(tmp_path):
    save(tmp_path, 1, 1.0)
    save(tmp_path, 1, 2.0)
    assert float(checkpoint.load(checkpoint.folder(tmp_path, 1)).tensors["model"]["weight"][0, 0]) == 2.0
    assert visible(tmp_path) == ["step-00000001"]


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    for step in (2, 4, 6, 8, 10):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, keep={4})
    assert visible(tmp_path) == ["step-00000004", "step-00000008", "step-00000010"]


def test_the_optimizer_comes_back_exactly(tmp_path):
    def step(model: Toy, optimizer: torch.optim.Optimizer) -> None:
        views = {"image": torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).to(torch.uint8)}
        model(views, {"input_ids": torch.arange(8).view(2, 4)}).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def make() -> tuple[Toy, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Toy()
        return model, torch.optim.AdamW(
            [{"params": list(model.parameters())[:2], "weight_decay": 0.1}, {"params": list(model.parameters())[2:]}],
            lr=1e-2,
            fused=True,
        )

    model, optimizer = make()
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 3e-3
    tensors, rest = checkpoint.flatten_optimizer(optimizer)
    path = checkpoint.save(tmp_path, 1, {"model": model.state_dict(), "optimizer": tensors}, {"optimizer": rest})
    found = checkpoint.load(path)
    other, restored = make()
    other.load_state_dict(found.tensors["model"])
    checkpoint.restore_optimizer(restored, found.tensors["optimizer"], found.state["optimizer"])
    assert [group["lr"] for group in restored.param_groups] == [3e-3, 1e-2]
    for _ in range(2):
        step(model, optimizer)
        step(other, restored)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace a file of a checkpoint and its sha256, as somebody who edits checkpoints would."""
    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][name] = sha256_file(path / name)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["step-old", "step-", "best", "step-00000009 (copy)", "step-1e3", "step-٣"])
def test_a_folder_of_another_name_is_read_when_it_is_named_and_never_continued_or_deleted(tmp_path, name):
    for step in (2, 4, 6):
        save(tmp_path, step)
    os.rename(save(tmp_path, 9), tmp_path / name)
    assert checkpoint.load(tmp_path / name).step == 9
    assert checkpoint.latest(tmp_path)[0].step == 6
    checkpoint.prune(tmp_path, keep=set())
    assert visible(tmp_path) == sorted([name, "step-00000004", "step-00000006"])


def test_steps_are_compared_as_numbers(tmp_path):
    save(tmp_path, 99_999_999)
    save(tmp_path, 100_000_000)
    assert checkpoint.latest(tmp_path)[0].step == 100_000_000


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("state.json", DEEP),
        ("state.json", b"[]"),
        ("state.json", b"\xff"),
        ("model.safetensors", b"\xff" * 7 + b"\x7f{}"),
        ("model.safetensors", (2**40).to_bytes(8, "little") + b"{}"),
        ("model.safetensors", len(DEEP).to_bytes(8, "little") + DEEP),
        ("model.safetensors", b""),
    ],
    ids=["deep", "list", "text", "header of 9 EB", "header of 1 TB", "deep header", "empty"],
)
def test_odd_content_with_a_matching_sha256_is_damage(tmp_path, name, data):
    save(tmp_path, 5)
    path = save(tmp_path, 10)
    rewrite(path, name, data)
    with pytest.raises(UserError, match="step-00000010 is damaged") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    found, notes = checkpoint.latest(tmp_path)
    assert found.step == 5
    assert "step-00000010 is damaged" in notes[0]


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"step": 1, "sha256": []}', '{"step": "1", "sha256": {}}', DEEP.decode(), "null", '{"step": 10}'],
)
def test_an_odd_manifest_is_damage(tmp_path, text):
    path = save(tmp_path, 10)
    (path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest is missing or unreadable"):
        checkpoint.load(path)


def test_a_manifest_names_no_file_elsewhere(tmp_path):
    path = save(tmp_path, 10)
    (tmp_path / "other").write_bytes(b"x")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["../other"] = sha256_file(tmp_path / "other")
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.check(path) == "../other is missing"


@pytest.mark.parametrize("data", [(2**62).to_bytes(8, "little") + b"{}", len(DEEP).to_bytes(8, "little") + b"{" + DEEP])
def test_odd_headers_of_weight_files_are_a_sentence(tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match="weights.safetensors is damaged") as caught:
        read_content(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "categories.json"])
def test_deep_files_of_a_run_are_a_sentence(tmp_path, name):
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / name).write_bytes(DEEP)
    run = RunFolder.open(tmp_path)
    with pytest.raises(UserError, match=f"{name}.*deep") as caught:
        getattr(run, name.partition(".")[0])
    assert "\n" not in str(caught.value)
