"""Costs: parameters and FLOPs equal a count by hand; what is timed is eval mode at batch size 1."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rrsis_bench.eval import efficiency
from rrsis_bench.eval.efficiency import measure, peak_resident_gb
from rrsis_bench.interfaces import Segmenter, SegmenterOutput


class Counted(Segmenter):
    """One convolution and one linear layer whose multiply-accumulates are easily counted."""

    phrase_masks = ("object_mask",)

    def __init__(self):
        super().__init__()
        self.views, self.max_tokens = {"near": 10, "far": 6}, 5
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.words = nn.Linear(5, 7)
        self.words.bias.requires_grad_(False)
        self.seen: list[tuple] = []

    def forward(self, views, text):
        self.seen.append(
            (self.training, torch.is_grad_enabled(), {k: tuple(v.shape) for k, v in views.items()}, set(text))
        )
        maps = self.conv(views["near"].float())
        return SegmenterOutput(maps.mean(1) + self.words(text["object_mask"].float()).mean())


@pytest.fixture(autouse=True)
def without_bfloat16(monkeypatch):
    """The machine of the tests does not matter."""
    monkeypatch.setattr(efficiency, "computes_in_bfloat16", lambda _: False)


def test_parameters_and_flops_equal_a_count_by_hand():
    model = Counted().train()
    cost = measure(model, torch.device("cpu"), warmup=1, passes=3)
    assert (cost.params_total, cost.params_trainable) == (4 * 3 * 9 + 5 * 7 + 7, 4 * 3 * 9 + 5 * 7)
    macs = 10 * 10 * 4 * 3 * 9 + 5 * 7
    assert cost.gflops == pytest.approx(2 * macs / 1e9)
    assert (cost.input_size, cost.gflops_batch, cost.batch) == ({"near": 10, "far": 6}, 1, 1)
    assert cost.fps == pytest.approx(1000 / cost.latency_ms)
    assert 0 < cost.latency_ms < 1000
    assert (cost.device, cost.precision) == ("cpu", "32-true")


def test_what_is_measured_is_one_expression_in_eval_mode_without_gradients():
    model = Counted()
    measure(model, torch.device("cpu"), warmup=1, passes=3)
    shapes = {"near": (1, 3, 10, 10), "far": (1, 3, 6, 6)}
    assert (
        model.seen == [(False, False, shapes, {"input_ids", "attention_mask", "object_mask"})] * 5
    )  # one counted, 4 timed


def test_a_device_that_computes_in_bfloat16_has_a_second_latency(monkeypatch):
    model, kinds = Counted(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *x: (kinds.append(torch.is_autocast_enabled("cpu")), forward(*x))[1])
    assert measure(model, torch.device("cpu"), warmup=2, passes=9).latency_amp_ms is None
    assert not any(kinds)
    monkeypatch.setattr(efficiency, "computes_in_bfloat16", lambda _: True)
    cost = measure(model, torch.device("cpu"), warmup=2, passes=9)
    assert 0 < cost.latency_amp_ms < 1000
    assert sum(kinds) == 4
    assert (cost.precision, cost.fps) == ("32-true", pytest.approx(1000 / cost.latency_ms))


class Attending(Segmenter):
    """One `nn.MultiheadAttention`, whose fused path runs in eval mode without gradients."""

    def __init__(self):
        super().__init__()
        self.views, self.max_tokens = {"image": 4}, 5
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.words = nn.Embedding(10, 8)

    def forward(self, views, text):
        words = self.words(text["input_ids"])
        found = self.attention(words, words, words, need_weights=False)[0]
        return SegmenterOutput(found.mean() + views["image"].float().mean(1))


def test_attention_in_its_fused_path_is_counted():
    cost = measure(Attending().eval(), torch.device("cpu"), warmup=0, passes=1)
    projections, scores = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8  # 5 tokens of 8 features
    assert cost.gflops == pytest.approx(2 * (projections + scores) / 1e9)
    assert torch.backends.mha.get_fastpath_enabled()


def test_memory_is_in_gigabytes_of_this_process():
    held = torch.ones(1024, 1024, 16)  # 64 MiB, touched
    assert 0.0625 < peak_resident_gb() < 64
    assert held.sum() > 0
