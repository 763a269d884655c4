"""Training that does not fit into memory stops with the batch size and with what to change."""

from __future__ import annotations

import json

import pytest
import torch

from rrsis_bench.errors import is_out_of_memory
from rrsis_bench.train.loop import OutOfMemory
from tests.fakes.toy import Toy, make_trainer


class Greedy(Toy):
    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def forward(self, views, text):
        self.calls += 1
        if self.calls == 4:
            raise self.error
        return super().forward(views, text)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_message_names_the_batch_and_what_to_change(fake_root, tmp_path, error):
    trainer = make_trainer(fake_root, tmp_path, model=Greedy(error), batch_size=4, epochs=3)
    with pytest.raises(OutOfMemory) as caught:
        trainer.fit()
    message = str(caught.value)
    assert "train.batch_size=4" in message
    assert "train.batch_size=2 train.accumulate=2" in message
    assert "trainer.precision" in message
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "oom"
    assert (tmp_path / "checkpoints" / "step-00000002").is_dir(), "the first epoch's checkpoint is kept"


def test_other_errors_are_not_taken_for_it(fake_root, tmp_path):
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        make_trainer(fake_root, tmp_path, model=Greedy(RuntimeError("shapes")), epochs=3).fit()
