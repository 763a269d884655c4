"""The Python interface: predict masks of referring expressions on images with a trained model."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rrsis_bench import registry
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.schema import Config, DataConfig
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import FROM_EXPRESSIONS
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.predict import pipeline
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.outputs import sinks
from rrsis_bench.predict.outputs.results import Prediction, Predictions
from rrsis_bench.predict.pipeline import Options
from rrsis_bench.predict.sources import scaling
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.source import Cropped, Source, Window
from rrsis_bench.predict.warnings import collect_warnings
from rrsis_bench.resources import CHECKOUT
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.run.model import TOKENIZER, build_fabric, load_text, restore_model
from rrsis_bench.run.provenance import git_state
from rrsis_bench.train import checkpoint, frozen
from rrsis_bench.train.rng import seed_everything

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """Provenance of a loaded model.

    Attributes:
        model: registry name.
        run_id: of its run; None for weights without a run.
        weights: path of the checkpoint folder or file.
        weights_sha256: sha256 of the loaded weights.
        data: name of the training dataset; None if unknown.
        side: longer side of its images in pixels; None if unknown or different.
        git_sha: commit of the suite that predicts.
    """

    model: str
    run_id: str | None
    weights: str
    weights_sha256: str
    data: str | None
    side: int | None
    git_sha: str | None


class Predictor:
    """Predict masks of referring expressions on images.

    Args:
        engine: model, tokens and device.
        origin: provenance of the model.
    """

    def __init__(self, engine: Engine, origin: ModelProvenance):
        self.engine, self.origin = engine, origin

    @classmethod
    def from_run(cls, run: str | Path, *, device: Device = "auto") -> Predictor:
        """Load the best checkpoint of a finished run.

        Args:
            run: its id, if it is in the folder ``runs``; its folder, or the folder of one of its checkpoints.
            device: ``auto``, ``cpu`` or ``cuda``.

        Raises:
            UserError: not a finished run, or some of its files are missing or damaged.
        """
        folder = RunFolder.open(RunFolder.locate(run, "runs"))
        config, path = folder.config, folder.weights
        saved = checkpoint.load(path)
        seed_everything(config.seed)  # frozen parts with random weights are not in the checkpoint
        hint = f"{folder.path / 'config.yaml'} or the model's code has changed since the run."
        model = restore_model(config.model, saved, hint)
        text = load_text(config, model, folder.categories, folder.vocabulary)
        return cls._of(config, config.data, model, text, device, folder.path.name, path, frozen.weights_sha256(path))

    @classmethod
    def from_weights(
        cls, path: str | Path, model: str | None = None, overrides: Sequence[str] = (), *, device: Device = "auto"
    ) -> Predictor:
        """Load weights that a paper's authors released, or a checkpoint of this suite.

        Args:
            path: the authors' ``.pth`` file, or a run or checkpoint folder as in `from_run`.
            model: registry name; needed for a file.
            overrides: for a file: Hydra overrides that choose its size and arguments (``data=rrsisd``, ``size=paper``).
            device: ``auto``, ``cpu`` or ``cuda``.

        Raises:
            UserError: no model is given, or the weights do not fit it.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            if model is not None or overrides:
                raise UserError(f"{path} is a run, which records its model and arguments. Remove --model and --set.")
            return cls.from_run(path, device=device)
        if not path.is_file():
            raise UserError(f"{path} does not exist. Check --weights.")
        if model is None:
            raise UserError(f"{path.name} does not say which model it is for. Give --model; see `rrsis-bench list`.")
        from rrsis_bench.official import load_official

        registry.find(model)
        config = compose_config([f"model={model}", "size=paper", *overrides])
        built = load_official(model, path, **config.model.args)
        if config.tokenizer in FROM_EXPRESSIONS:
            raise UserError(
                f"{TOKENIZER}={config.tokenizer} is built from training expressions, which released weights do not "
                "include. Set it to the weights' own tokenizer, such as hub:google-bert/bert-base-uncased."
            )
        text = load_text(config, built, _categories(config, built), path)
        data = config.data if any(override.startswith("data=") for override in overrides) else None
        return cls._of(config, data, built, text, device, None, path, sha256_file(path))

    @classmethod
    def _of(
        cls,
        config: Config,
        data: DataConfig | None,
        model: Segmenter,
        text: TextPipeline,
        device: Device,
        run_id: str | None,
        path: Path,
        weights_sha256: str,
    ) -> Predictor:
        fabric = build_fabric(dataclasses.replace(config.trainer, accelerator=device))
        engine = Engine(model.to(fabric.device), text, fabric, align_corners=config.protocol.align_corners)
        name, side = (None, None) if data is None else (data.name, data.image_side)
        commit = git_state(CHECKOUT)[0]
        origin = ModelProvenance(config.model.name, run_id, str(path), weights_sha256, name, side, commit)
        return cls(engine, origin)

    def tags(self, options: Options, scale: scaling.Scaling, image: str) -> dict[str, str]:
        """Return the tags of every file of a prediction."""
        tags = {
            "image": image,
            "model": self.origin.model,
            "weights_sha": self.origin.weights_sha256,
            "git_sha": self.origin.git_sha or "",
            "view": options.view,
            "threshold": f"{options.threshold:g}",
            "scale": json.dumps(scale.as_dict()),
        }
        return tags | ({"tile": str(options.tile), "overlap": f"{options.overlap:g}"} if options.view == "tile" else {})

    def read(self, expressions: Sequence[str], options: Options, source: Source) -> list[str]:
        """Tokenise the expressions; return warnings about them, the options and the image."""
        truncated = self.engine.read(expressions).truncated
        return collect_warnings(self.engine, self.origin.side, expressions, options, source, truncated)

    def __call__(
        self,
        image: Any,
        expressions: str | Sequence[str],
        *,
        window: tuple[int, int, int, int] | None = None,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        scale: str = "auto",
        **options: Any,
    ) -> Predictions:
        """Predict one mask per expression.

        Args:
            image: a path, an array (H, W, 3) or (H, W), a PIL image, or an xarray.DataArray with ``.rio``.
            expressions: one or several referring expressions.
            window: x, y, width, height in pixels of the part to predict on.
            bands: three bands (or one) shown as red, green and blue, counted from 1.
            nodata: value of pixels without data, if the file does not record it.
            scale: ``auto``, ``none``, ``LO,HI`` or ``pLO,pHI``; see `rrsis_bench.predict.sources.scaling`.
            options: fields of `rrsis_bench.predict.pipeline.Options`: view, tile, overlap, threshold, ...

        Warns about guessed bands, truncated expressions and other effects of the options.

        Raises:
            UserError: an unsuitable image, expression or option.
        """
        wanted = [expressions] if isinstance(expressions, str) else list(expressions)
        chosen = self.options(options)
        with open_source(image, bands=bands, nodata=nodata) as opened:
            source: Source = opened if window is None else Cropped(opened, Window(*window))
            scaled = scaling.decide(source, scale)
            for line in self.read(wanted, chosen, source):
                warnings.warn(line, stacklevel=2)
            arrays = sinks.ArraySink(len(wanted), source.height, source.width)
            pipeline.predict(source, self.engine, len(wanted), chosen, scaled, [arrays])
            meta = self.tags(chosen, scaled, source.name)
            return Predictions(
                [
                    Prediction(expression, arrays.values[index], arrays.probabilities[index], source.georef, meta)
                    for index, expression in enumerate(wanted)
                ]
            )

    def options(self, values: Mapping[str, Any]) -> Options:
        """Parse options; a tile is by default as large as the training images, or the main view if they are unknown."""
        return Options.parse(values, self.origin.side or self.engine.side)


def _categories(config: Config, model: Segmenter) -> tuple[str, ...]:
    """Return the dataset's category names if the model marks phrases with them; UserError if it cannot be read."""
    if "object_mask" not in model.phrase_masks and "position_mask" not in model.phrase_masks:
        return ()
    data = config.data
    try:
        return open_split(data.format, Path(data.root), "train", data.options).category_names
    except UserError as error:
        raise UserError(
            f"{config.model.name} looks up the category names of '{data.name}' in every expression. They are read from "
            f"the dataset: {error}\nGive its folder with --set data.root=."
        ) from error
