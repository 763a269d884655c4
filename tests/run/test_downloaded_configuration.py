"""A run folder from elsewhere is data: its configuration reads nothing of this machine."""

from __future__ import annotations

import yaml

from rrsis_bench.run.folder import RunFolder
from tests.fakes.config import compose


def test_an_interpolation_in_a_run_is_text(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    values = compose("model=lavt", "data=custom", "size=tiny")
    values["data"]["root"] = "${oc.env:TOKEN}"
    values["model"]["args"]["decoder_width"] = "${oc.env:TOKEN}"
    values["text"]["tokenizer"] = "${oc.decode:${oc.env:TOKEN}}"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    config = RunFolder(tmp_path).config
    assert config.data.root == "${oc.env:TOKEN}"
    assert config.model.args["decoder_width"] == "${oc.env:TOKEN}"
    assert "secret" not in str(config)
