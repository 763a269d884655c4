"""Checkpoints leave frozen pretrained parts out, know them by their sha256 and refuse others, by name."""

from __future__ import annotations

import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.train import checkpoint, frozen
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import Toy, make_trainer

LEFT_OUT = {"backbone.conv.weight", "backbone.conv.bias", "backbone.norm.weight", "backbone.norm.bias"}


def saved(model, root, *, full: bool = False) -> checkpoint.Checkpoint:
    """What a trainer would write of `model`."""
    tensors = model.state_dict() if full else frozen.trainable_state(model)
    state = {} if full else {"frozen": frozen.describe(model)}
    return checkpoint.load(checkpoint.save(root, 1, {"model": tensors}, state))


def test_frozen_parameters_of_a_part_are_left_out_and_nothing_else():
    model = ImageFirst()
    assert set(frozen.trainable_state(model)) == set(model.state_dict()) - LEFT_OUT
    assert {"backbone.lora_a", "backbone.norm.running_mean", "backbone.norm.num_batches_tracked"} <= set(
        frozen.trainable_state(model)
    )
    model.head.requires_grad_(False)  # by train.freeze: no part of pretrained weights
    assert set(frozen.trainable_state(model)) == set(model.state_dict()) - LEFT_OUT
    model.backbone.norm.requires_grad_(True)
    assert frozen.frozen_keys(model) == {"backbone.": ["backbone.conv.bias", "backbone.conv.weight"]}
    model.backbone.requires_grad_(True)
    assert frozen.frozen_keys(model) == {}
    assert set(frozen.trainable_state(model)) == set(model.state_dict())
    assert frozen.frozen_keys(Toy()) == {}


def test_the_sha256_is_over_names_shapes_and_bytes_of_what_is_left_out():
    model = ImageFirst()
    (part,) = frozen.describe(model).values()
    plain = hashlib.sha256()
    for key in sorted(LEFT_OUT):
        value = model.state_dict()[key].numpy()
        plain.update(json.dumps([key, "torch.float32", list(value.shape)]).encode())
        plain.update(np.ascontiguousarray(value).tobytes())
    assert part == {"weights": "hub:nobody/backbone", "sha256": plain.hexdigest(), "tensors": 4}
    model.head.weight.data += 1
    model.backbone.norm.running_mean += 1
    assert frozen.describe(model) == {"backbone.": part}
    tensors = {"half": torch.ones(3, dtype=torch.bfloat16), "one": torch.tensor(2.0), "none": torch.zeros(0)}
    assert frozen.tensors_sha256(tensors, ["one", "half", "none"]) == frozen.tensors_sha256(tensors, list(tensors))


def test_what_is_held_comes_back_around_the_frozen_part(tmp_path):
    model, other = ImageFirst(), ImageFirst()
    for parameter in (model.head.weight, model.backbone.lora_b, model.backbone.norm.running_var):
        parameter.data += 0.5
    found = saved(model, tmp_path)
    assert set(found.tensors["model"]) & LEFT_OUT == set()
    frozen.load(other, found)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_gradients_may_be_switched_otherwise_when_it_is_loaded(tmp_path):
    """`evaluate` builds the model without train.freeze."""
    model, other = ImageFirst(), ImageFirst()
    found = saved(model, tmp_path)
    other.requires_grad_(True)
    frozen.load(other, found)
    other.backbone.conv.weight.data += 1
    with pytest.raises(UserError, match="frozen part 'backbone'"):
        frozen.load(other, found)


@pytest.mark.parametrize("key", sorted(LEFT_OUT))
def test_a_changed_frozen_weight_is_refused_by_name_and_nothing_is_loaded(tmp_path, key):
    model, other = ImageFirst(), ImageFirst(weights="/elsewhere/backbone.pt")
    model.head.weight.data += 1
    found = saved(model, tmp_path)
    value = other.state_dict()[key].view(-1)
    value[-1] = torch.nextafter(value[-1], torch.tensor(9.0))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(UserError) as caught:
        frozen.load(other, found)
    for model_, spec in ((model, "there hub:nobody/backbone"), (other, "here  /elsewhere/backbone.pt")):
        assert f"{spec}, sha256 {frozen.describe(model_)['backbone.']['sha256'][:16]}" in str(caught.value)
    assert f"{found.path} omits the frozen part 'backbone'" in str(caught.value)
    assert "seed" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_random_frozen_weights_come_from_the_seed(tmp_path):
    found = saved(ImageFirst(weights="random", seed=3), tmp_path)
    frozen.load(ImageFirst(weights="random", seed=3), found)
    with pytest.raises(UserError, match="which were random: they come from the seed"):
        frozen.load(ImageFirst(weights="random", seed=4), found)


def test_a_model_without_the_part_is_refused(tmp_path):
    found = saved(ImageFirst(), tmp_path)
    with pytest.raises(UserError, match="here  no such part, sha256 over 0 tensors, not 4"):
        frozen.load(Toy(), found)


def test_a_whole_checkpoint_replaces_frozen_weights_too(tmp_path):
    """So do those that were written before there were frozen parts: their state says nothing of them."""
    model, other = ImageFirst(), ImageFirst(seed=1)
    found = saved(model, tmp_path, full=True)
    assert set(found.tensors["model"]) == set(model.state_dict())
    frozen.load(other, found)
    assert torch.equal(other.backbone.conv.weight, model.backbone.conv.weight)


def test_missing_and_surplus_keys_are_no_frozen_part(tmp_path):
    found = saved(ImageFirst(), tmp_path)
    del found.tensors["model"]["head.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.bias"):
        frozen.load(ImageFirst(), found)
    found.tensors["model"] |= {"head.bias": torch.zeros(1), "tail": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="Unexpected key.*tail"):
        frozen.load(ImageFirst(), found)
    with pytest.raises(RuntimeError, match="Missing key"):
        frozen.load(Toy(), checkpoint.Checkpoint(1, {"model": {}}, {}, tmp_path))


def test_the_weights_of_a_record_are_those_of_the_backbone_too(tmp_path):
    whole = saved(ImageFirst(), tmp_path / "whole", full=True).path
    assert frozen.weights_sha256(whole) == sha256_file(whole / "model.safetensors")
    one, other = ImageFirst(), ImageFirst()
    other.backbone.conv.weight.data += 1
    paths = [
        saved(model, tmp_path / str(index)).path for index, model in enumerate((one, other, ImageFirst("a/file.pt")))
    ]
    assert len({sha256_file(path / "model.safetensors") for path in paths}) == 1
    hashes = [frozen.weights_sha256(path) for path in paths]
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2], "where the weights came from does not matter"


def test_tied_weights_are_saved_once_each_and_come_back(tmp_path):
    class Tied(Toy):
        def __init__(self):
            super().__init__()
            self.again = nn.Embedding(300, 8)
            self.again.weight = self.words.weight

    model, other = Tied(), Tied()
    found = saved(model, tmp_path)
    frozen.load(other, found)
    assert other.again.weight is other.words.weight
    assert torch.equal(other.words.weight, model.words.weight)


def test_parts_within_parts_are_a_mistake():
    class Nested(ImageFirst):
        def frozen_parts(self):
            return {"backbone.": "a", "backbone.conv.": "b"}

    with pytest.raises(ValueError, match=r"'backbone\.conv\.' is inside 'backbone\.'"):
        frozen.frozen_keys(Nested())


class TestTrainer:
    """The loop saves, resumes and shows them."""

    def test_a_checkpoint_holds_what_is_trained(self, fake_root, tmp_path, monkeypatch):
        calls: list[int] = []
        digest = frozen.tensors_sha256
        monkeypatch.setattr(frozen, "tensors_sha256", lambda *args: calls.append(1) or digest(*args))
        best = make_trainer(fake_root, tmp_path, model=ImageFirst()).fit()
        assert calls == [1], "the frozen weights are read once, not with every checkpoint"
        found = checkpoint.load(best)
        assert set(found.tensors["model"]) == set(ImageFirst().state_dict()) - LEFT_OUT
        assert found.state["frozen"] == frozen.describe(ImageFirst())

    def test_a_full_checkpoint_holds_everything(self, fake_root, tmp_path):
        best = make_trainer(fake_root, tmp_path, model=ImageFirst(), full_checkpoints=True, epochs=2).fit()
        found = checkpoint.load(best)
        assert set(found.tensors["model"]) == set(ImageFirst().state_dict())
        assert found.state["frozen"] == {}
        make_trainer(fake_root, tmp_path, model=ImageFirst(seed=1), epochs=3).fit()  # goes on with the frozen weights
        assert checkpoint.latest(tmp_path / "checkpoints")[0].state["frozen"] == frozen.describe(ImageFirst())

    def test_other_frozen_weights_do_not_resume(self, fake_root, tmp_path):
        make_trainer(fake_root, tmp_path, model=ImageFirst(), epochs=1).fit()
        with pytest.raises(UserError, match="frozen part 'backbone', which has other weights here"):
            make_trainer(fake_root, tmp_path, model=ImageFirst(seed=1), epochs=2).fit()

    def test_a_run_starts_with_a_table_of_what_is_trained(self, fake_root, tmp_path):
        shown = Terminal(file=io.StringIO(), width=100)
        trainer = make_trainer(fake_root, tmp_path, model=ImageFirst(), epochs=1, console=shown, freeze=("head.*",))
        trainer.fit()
        rows = re.findall(r"(backbone|lora|words|head|total) *│ *([\d,]+) *│ *([\d,]+)", shown.file.getvalue())
        assert rows == [
            ("lora", "32", "32"), ("backbone", "240", "0"), ("words", "2,400", "2,400"), ("head", "9", "0"),
            ("total", "2,681", "2,432"),
        ]  # fmt: skip

    def test_no_table_where_everything_is_trained(self, fake_root, tmp_path):
        shown = Terminal(file=io.StringIO(), width=100)
        make_trainer(fake_root, tmp_path, epochs=1, console=shown).fit()
        assert "trained" not in shown.file.getvalue()
