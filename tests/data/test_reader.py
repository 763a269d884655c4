"""A loader process that dies or hangs ends in a message with the samples that were being read."""

from __future__ import annotations

import os
import signal
import time

import pytest

from rrsis_bench.data.loading.reader import BatchReader, LoaderFailure
from tests.fakes.toy import make_trainer, views_of


class Breaking:
    """A dataset that does something at one of its samples."""

    def __init__(self, inner, place, action):
        self._inner, self._place, self._action, self._main = inner, place, action, os.getpid()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __len__(self):
        return len(self._inner)

    def __getitem__(self, index):
        if index == self._place and os.getpid() != self._main:
            self._action()
        return self._inner[index]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(3600)


def read_all(reader, work_s=0.0):
    with reader as batches:
        for _ in batches:
            time.sleep(work_s)


def broken(fake_root, place, action):
    data = views_of(fake_root)
    data.dataset = Breaking(data.dataset, place, action)
    return data


@pytest.mark.parametrize(("action", "timeout", "words"), [(die, 0, "ended"), (hang, 1, "trainer.loader_timeout")])
def test_the_samples_in_flight_are_named(fake_root, action, timeout, words):
    reader = BatchReader(broken(fake_root, 5, action), 2, [7, 6, 5, 4, 3, 2], num_workers=1, timeout=timeout)
    with pytest.raises(LoaderFailure) as caught:
        read_all(reader)
    message = str(caught.value)
    assert "00005" in message
    assert words in message
    assert "Traceback" not in message


def test_a_death_while_the_model_works_is_named_too(fake_root):
    reader = BatchReader(broken(fake_root, 4, die), 1, [0, 1, 2, 3, 4, 5], num_workers=1)
    with pytest.raises(LoaderFailure, match="00004"):
        read_all(reader, work_s=0.02)


def test_training_ends_with_the_message_and_its_checkpoint(fake_root, tmp_path):
    data = views_of(fake_root)
    trainer = make_trainer(fake_root, tmp_path, data=data, num_workers=1, batch_size=2, epochs=2)
    original = trainer._select

    def after_the_first_epoch():
        original()
        data.dataset = Breaking(data.dataset, 3, die)

    trainer._select = after_the_first_epoch
    with pytest.raises(LoaderFailure, match="same command"):
        trainer.fit()
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000004"]


def test_another_error_of_the_block_is_not_renamed(fake_root):
    with pytest.raises(RuntimeError, match="shape"), BatchReader(views_of(fake_root), 2, [0, 1]):
        raise RuntimeError("shape mismatch")
