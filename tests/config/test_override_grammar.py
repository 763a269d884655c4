"""Values with Hydra's own characters and unknown keys: one line with the way out."""

from __future__ import annotations

import shlex

import pytest

from rrsis_bench import cli
from rrsis_bench.config.compose import check_overrides, compose_config
from rrsis_bench.errors import UserError

VALUES = (
    "/data/(old)/set",
    "/data/a=b",
    "/data/a,b",
    "/数据/(旧)",
    "/data/#1 (2)",
    "/data/a{b",
    "C:\\data (1)",
    "/data/$x (1)",
)


@pytest.mark.parametrize("value", VALUES)
def test_the_shown_quoting_works(value, capsys):
    """Whatever Hydra refuses is shown in quotes, and what is shown gives the value as it was typed."""
    override = f"data.root={value}"
    try:
        check_overrides(["data=custom", override])
    except UserError as error:
        message = str(error)
        assert "\n" not in message
        (shown,) = shlex.split(message.partition("Write: ")[2])
        check_overrides(["data=custom", shown])
        assert compose_config(["data=custom", shown]).data.root == value
        assert cli.main(["bench", "data=custom", override]) == 2
        assert capsys.readouterr().err.count("error:") == 1
    else:
        assert compose_config(["data=custom", override]).data.root == value


def test_some_values_are_refused():
    with pytest.raises(UserError, match="data.root"):
        check_overrides(["data.root=/data/(old)/set"])
    with pytest.raises(UserError, match="data.root"):
        check_overrides(["data.root=/a,/b"])
    check_overrides(["-m", "seed=0,1"])
    with pytest.raises(UserError, match="data.root"):
        compose_config(["data.root=/data/(old)/set"])


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("modle=lavt", "model"),
        ("train.learning_rate=1e-4", "train.optimizer.lr"),
        ("lr=1e-4", "train.optimizer.lr"),
        ("epochs=3", "train.epochs"),
        ("batch_size=3", "train.batch_size"),
        ("sede=1", "seed"),
        ("trainer.workers=2", "trainer.num_workers"),
    ],
)
def test_an_unknown_key_names_the_field_that_was_meant(override, meant):
    with pytest.raises(UserError) as caught:
        compose_config(["data=custom", override])
    message = str(caught.value)
    assert meant in message.partition("Did you mean")[2].partition("?")[0]
    assert "+" not in message
    assert ".yaml" not in message
