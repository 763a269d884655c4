"""Weights & Biases mirrors a run and can never end it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.run.test_bench import records, run


class TestWeightsAndBiases:
    """The mirror receives numbers and is switched off with one warning if it fails."""

    OVERRIDES = ("logger=wandb", "controls=false", "train.epochs=1", "trainer.log_every=1")

    def fake(self, monkeypatch, **functions: Any) -> ModuleType:
        module = ModuleType("wandb")
        module.Error = type("Error", (Exception,), {"__module__": "wandb.errors"})
        for name, function in functions.items():
            setattr(module, name, function)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module

    def test_numbers_arrive_with_their_steps(self, fake_root, tmp_path, monkeypatch):
        seen: list[tuple[int, dict[str, float]]] = []
        ended: list[bool] = []
        started: dict[str, Any] = {}

        def init(**options):
            started.update(options)
            return SimpleNamespace(
                log=lambda values, step: seen.append((step, values)), finish=lambda: ended.append(True)
            )

        self.fake(monkeypatch, init=init)
        run(tmp_path, fake_root, *self.OVERRIDES)
        assert started["id"] == records(tmp_path)[0].run_id
        assert [step for step, values in seen if "train/loss" in values] == [1, 2]
        assert any("val/miou" in values for _, values in seen)
        assert any("test/miou" in values for _, values in seen)
        assert ended == [True]

    def test_absent(self, fake_root, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        shown, _ = run(tmp_path, fake_root, *self.OVERRIDES)
        assert shown.count("wandb is switched off") == 1
        assert len(records(tmp_path)) == 1

    @pytest.mark.parametrize("error", [ConnectionError("no route"), RuntimeError("broken"), TimeoutError("slow")])
    def test_raising_at_the_start(self, fake_root, tmp_path, monkeypatch, error):
        def init(**_):
            raise error

        self.fake(monkeypatch, init=init)
        shown, _ = run(tmp_path, fake_root, *self.OVERRIDES, "vision.embed_dim=8")
        assert shown.count(f"wandb is switched off: {error}") == 1
        assert len(records(tmp_path)) == 1

    def test_raising_in_the_middle_and_at_the_end(self, fake_root, tmp_path, monkeypatch):
        calls: list[str] = []

        def fail(kind):
            calls.append(kind)
            raise module.Error("lost the connection")

        module = self.fake(
            monkeypatch,
            init=lambda **_: SimpleNamespace(log=lambda *_, **__: fail("log"), finish=lambda: fail("finish")),
        )
        shown, _ = run(tmp_path, fake_root, *self.OVERRIDES)
        assert calls == ["log"], "after its first failure it is left alone"
        assert shown.count("wandb is switched off: lost the connection") == 1
        assert len(records(tmp_path)) == 1
