"""One path: predict's frame mode gives, pixel for pixel, the masks that evaluation saves."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from PIL import Image

from rrsis_bench import cli, registry
from rrsis_bench.config.protocol import Protocol
from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece, save_vocabulary
from rrsis_bench.errors import UserError
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.predictions import PredictionWriter
from rrsis_bench.interfaces import ImageFirstSegmenter, Segmenter, SegmenterOutput
from rrsis_bench.official import load_official
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.predictor import ModelProvenance, Predictor
from rrsis_bench.run import bench
from tests.fakes.config import compose, model_args, parsed, tiny_overrides
from tests.fakes.official_checkpoint import SMALL, official_state_dict, small_shapes
from tests.fakes.rrsisd import write_fake_rrsisd
from tests.models.conftest import build_tiny

SCENES = 20


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The test split of a tree with one reference per image; images of 75 pixels, so that every view resizes."""
    root = write_fake_rrsisd(
        tmp_path_factory.mktemp("scenes"), n_train=2, n_val=2, n_test=SCENES, size=75, per_image=1
    ).root
    return open_split("rrsisd", root, "test")


def balanced(model: Segmenter) -> Segmenter:
    """The model, its logits moved by their own median: random weights often say the same everywhere."""
    place = "decode" if isinstance(model, ImageFirstSegmenter) else "forward"
    inner = getattr(model, place)

    def moved(*args):
        output = inner(*args)
        return SegmenterOutput(output.logits - output.logits.flatten(1).median(1).values[:, None, None])

    object.__setattr__(model, place, moved)
    return model


def saved_masks(path: Path) -> dict[str, dict]:
    return {line["sample_id"]: line["rle"] for line in map(json.loads, path.read_text().splitlines())}


def as_rle(mask_HW: np.ndarray) -> dict:
    rle = masks.encode(mask_HW)
    return {**rle, "counts": rle["counts"].decode("ascii")}


@pytest.mark.parametrize(("model", "align_corners"), [*((name, False) for name in registry.entries()), ("lavt", True)])
def test_frame_mode_gives_the_masks_that_evaluation_saves(tmp_path, scenes, model, align_corners):
    arguments = {"parser": "chain"} if model == "lscm" else {}  # the tests have no pipeline of spaCy
    built = balanced(build_tiny(model, **arguments))
    expressions = [scenes[index].expression for index in range(SCENES)]
    text = TextPipeline(
        build_wordpiece(expressions, 200), built.max_tokens, phrase_masks=built.phrase_masks,
        categories=scenes.category_names, parser=built.head_parser,
    )  # fmt: skip
    fabric = Fabric(accelerator="cpu", devices=1)
    data = ViewDataset(scenes, built.views, text, native_masks=True)
    protocol = Protocol(**{**compose()["protocol"], "align_corners": align_corners})
    path = tmp_path / "test.jsonl"
    with PredictionWriter(path) as writer:
        predict_and_count(built, data, protocol, fabric, batch_size=1, on_mask=writer.add)
    saved = saved_masks(path)
    assert len(saved) == SCENES

    engine = Engine(built, text, fabric, align_corners=align_corners)
    predictor = Predictor(engine, ModelProvenance(model, None, "nowhere", "0" * 64, None, None, None))
    for index in range(SCENES):
        sample = scenes[index]
        found = predictor(sample.image_path, sample.expression)[0]
        assert found.mask.any()
        assert not found.mask.all()
        assert as_rle(found.mask) == saved[sample.sample_id]
    assert len({rle["counts"] for rle in saved.values()}) > SCENES // 2, "the masks hardly depend on the scene"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of FIANet, which looks category names up: (its folder, its configuration, the dataset's samples)."""
    tmp_path = tmp_path_factory.mktemp("run")
    root = write_fake_rrsisd(tmp_path / "data").root
    config = parsed(
        "model=fianet", *tiny_overrides(tmp_path, root), "train.epochs=1", "trainer.eval_batch_size=1",
        "predictions=save",
    )  # fmt: skip
    bench.bench(config, Terminal(file=io.StringIO(), width=220))
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/manifest.json"))
    dataset = open_split("rrsisd", root, "test", config.data.options)
    samples = [dataset[index] for index in range(len(dataset))]
    return run, root, samples, saved_masks(run / "predictions" / "test.jsonl")


def test_the_command_gives_the_predictions_of_the_run(finished, tmp_path, capsys):
    """It needs the run's folder and the image only, not the dataset."""
    run, root, samples, saved = finished
    images = [Path(shutil.copy(sample.image_path, tmp_path)) for sample in samples]
    hidden = root.rename(root.with_name("hidden"))
    try:
        for image, sample in zip(images, samples, strict=True):
            code = cli.main(
                ["predict", str(image), sample.expression, "--run", str(run), "-o", str(tmp_path / "out"), "--json",
                 "--device", "cpu", "--no-overlay"]
            )  # fmt: skip
            assert code == 0
            content = json.loads(capsys.readouterr().out)
            assert content["model"]["run_id"] == run.name
            mask_HW = np.asarray(Image.open(tmp_path / "out" / f"{image.stem}.mask.png")) > 0
            assert as_rle(mask_HW) == saved[sample.sample_id]
            assert content["expressions"][0]["area_px"] == mask_HW.sum()
        predictor = Predictor.from_run(run, device="cpu")
        assert predictor.engine.text.finder is not None
        found = predictor(images[0], [samples[0].expression, samples[1].expression])
        assert as_rle(found[0].mask) == saved[samples[0].sample_id]
        last = next(iter(sorted((run / "checkpoints").iterdir())))
        assert Predictor.from_weights(last, device="cpu").origin.run_id == run.name
        with pytest.raises(UserError, match="--model"):
            Predictor.from_weights(run, "fianet")
    finally:
        hidden.rename(root)


def test_released_weights_predict_as_the_imported_model(tmp_path):
    """The authors' file, the arguments by overrides, and BERT's vocabulary from a local file."""
    torch.save({"model": official_state_dict("lavt", seed=0, shapes=small_shapes("lavt"))}, tmp_path / "lavt.pth")
    save_vocabulary(build_wordpiece(["the red ship on the left"], 200), tmp_path / "vocab.txt")
    overrides = [*SMALL, f"text.tokenizer={tmp_path / 'vocab.txt'}"]
    predictor = Predictor.from_weights(tmp_path / "lavt.pth", "lavt", overrides, device="cpu")
    image_HWC = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    found = predictor(image_HWC, "the red ship")[0]

    model = load_official("lavt", tmp_path / "lavt.pth", **model_args("lavt", *SMALL))
    text = predictor.engine.text(["the red ship"])
    views = {"image": torch.from_numpy(image_HWC).permute(2, 0, 1)[None].contiguous()}
    tokens = {key: torch.from_numpy(rows) for key, rows in text.items()}
    expected = model.eval().predict_masks(views, tokens, [(96, 96)])[0].numpy()
    np.testing.assert_array_equal(found.mask, expected)
    assert predictor.origin.run_id is None
    for arguments, said in [
        ((tmp_path / "lavt.pth",), "--model"),
        ((tmp_path / "none.pth", "lavt"), "none.pth does not exist"),
        ((tmp_path / "lavt.pth", "nosuch"), "nosuch"),
        ((tmp_path / "lavt.pth", "lavt", ["size=tiny"]), "lavt.pth"),
    ]:
        with pytest.raises(UserError, match=said):
            Predictor.from_weights(*arguments, device="cpu")
