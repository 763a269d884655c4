"""What `trainer.devices` refuses before anything is built, and what the configuration says about it."""

from __future__ import annotations

import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.run import launch
from rrsis_bench.run.bench import bench
from rrsis_bench.run.model import build_fabric, devices_of
from tests.fakes.config import parsed, tiny_overrides
from tests.fakes.world import environment


def config_of(*changes):
    return parsed("model=lavt", "data=synthetic", "trainer=cpu", *changes)


def test_an_indivisible_batch_is_refused_with_numbers_that_fit(tmp_path, fake_root):
    overrides = [*tiny_overrides(tmp_path, fake_root), "model=lavt", "train.batch_size=6", "trainer.devices=4"]
    with pytest.raises(UserError, match=r"train\.batch_size=6 cannot be shared by 4 .*Use 1, 2, 3, 6 processes"):
        bench(parsed(*overrides), launch.own_console())
    assert not (tmp_path / "runs").exists()


def test_callbacks_with_shares_of_the_weights_are_refused():
    changes = ("trainer.strategy=fsdp", "trainer.devices=2", "train.callbacks=[{name: ema}]", "train.batch_size=4")
    with pytest.raises(UserError, match=r"train\.callbacks \(ema\)"):
        launch.check_batch(config_of(*changes))


def test_the_trainers_use_all_gpus_and_say_so_where_there_is_none():
    for name in ("ddp", "fsdp"):
        trainer = parsed("model=lavt", "data=synthetic", f"trainer={name}", "trainer.accelerator=cpu").trainer
        assert (trainer.strategy, trainer.devices, trainer.precision) == (name, 0, "32-true")
        with pytest.raises(UserError, match=r"trainer\.devices=2"):
            devices_of(trainer)


def test_several_machines_are_started_by_srun_or_torchrun():
    with pytest.raises(UserError, match=r"srun --nodes=2 --ntasks-per-node=3.*torchrun --nnodes=2"):
        launch.is_needed(config_of("trainer.devices=3", "trainer.num_nodes=2").trainer)


@pytest.mark.parametrize("devices", [1, 3])
def test_another_number_than_torchrun_started_is_refused(monkeypatch, devices):
    for name, value in environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    trainer = config_of(f"trainer.devices={devices}").trainer
    assert not launch.is_needed(trainer)
    with pytest.raises(UserError, match=rf"one of 2, and trainer\.devices={devices}"):
        build_fabric(trainer)


def test_processes_of_srun_are_known(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert launch.started_ranks() == (1, 2)
    assert launch.own_console().quiet
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert launch.started_ranks() is None, "one process of a job may start others"
