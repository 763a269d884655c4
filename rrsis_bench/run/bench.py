"""One run from data to leaderboard, and the scoring of checkpoints that were trained elsewhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from omegaconf import OmegaConf
from rich.console import Console

from rrsis_bench import codec
from rrsis_bench.config import hashes as hashing
from rrsis_bench.config.schema import TrainerConfig
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import FIELD, WORDPIECE, tokenizer_source
from rrsis_bench.errors import UserError
from rrsis_bench.eval.metrics import compute_overall
from rrsis_bench.eval.scoring import Scores, score_split
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record, Status
from rrsis_bench.results.render import gallery
from rrsis_bench.run import build
from rrsis_bench.run.plan import Setting
from rrsis_bench.run.record import keep, make_record, origin_of, publish, stored_path
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.train import checkpoint, frozen
from rrsis_bench.train.events import EventLog, WandbMirror
from rrsis_bench.train.loop import NonFiniteLoss, Trainer
from rrsis_bench.train.rng import seed_everything


def bench(config: dict[str, Any], console: Console, overrides: Sequence[str] = ()) -> None:
    """Train, evaluate on test with the language controls, write the record and the tables, show them."""
    started, clock = datetime.now(UTC), time.perf_counter()
    setting = Setting.prepare(config, console, overrides)
    if setting.finished() and not config["force"]:
        console.print(f"{setting.run_id} is finished already (force=true trains it again).")
        if setting.predictions and not setting.predictions.is_file():
            console.print(
                "[yellow]Its predictions were not saved: they are while it is scored. Score it again by "
                f"`rrsis-bench evaluate` with the same overrides and checkpoint={setting.run_dir}.[/yellow]"
            )
        # Another table may have trained it under another name: this one shows it by what was typed now.
        record = dataclasses.replace(store.read(stored_path(setting)), variant=list(setting.variant))
        publish(setting, record, None, console)
        return
    if config["force"] and setting.run_dir.exists():
        shutil.rmtree(setting.run_dir)
    setting.run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(config), setting.run_dir / "config.yaml")
    mirror = None
    if config["logger"]["name"] == "wandb":
        logger = config["logger"]
        mirror = WandbMirror(logger["project"], logger["mode"], setting.run_id, config, setting.run_dir, console)
    events = EventLog(setting.run_dir / "events.jsonl", mirror)
    status: Status = "failed"
    console.print(f"[bold]{setting.run_id}[/bold]  {_sizes(setting)}  ->  {setting.run_dir}")
    try:
        with StopRequest() as stop:
            setting.write_manifest("running")
            fabric = build.build_fabric(config["trainer"])
            model, text = _build(setting, console)
            best = _train(setting, fabric, model, text, events, stop, console)
            trained = time.perf_counter() - clock
            saved = checkpoint.load(best)
            frozen.load(model, saved)
            scores = _score(setting, model, text, fabric, stop, console)
            wall_s = time.perf_counter() - clock
            origin = origin_of(setting, model, fabric, frozen.weights_sha256(best))
            record = make_record(setting, origin, scores, started=started, wall_s=wall_s, notes=_text_notes(text))
            keep(setting, record, scores)
            _draw(setting, fabric, model, text, record, scores)
        status = "finished"
        events.write("test", step=saved.step, miou=record.value("miou"), oiou=record.value("oiou"))
        setting.write_manifest("finished", weights_sha256=record.weights_sha256, best=best.name, train_s=trained)
    except Interrupted:
        status = "interrupted"
        raise
    except NonFiniteLoss:
        status = "nan"
        raise
    finally:
        if status != "finished":
            setting.write_manifest(status)
        events.write("end", status=status)
        events.close()
    publish(setting, record, scores, console)


def evaluate_checkpoint(config: dict[str, Any], console: Console, overrides: Sequence[str] = ()) -> None:
    """Score a checkpoint on test and record it: ``checkpoint=official:/path/file.pth``, a checkpoint or run folder.

    Raises:
        UserError: no ``checkpoint`` was given, it does not fit the model, or its vocabulary is not there.
    """
    from rrsis_bench.official import load_official

    source = config["checkpoint"]
    if not source:
        raise UserError(
            "evaluate needs checkpoint=official:/path/file.pth (a paper's released weights), or "
            "checkpoint=runs/<run_id> (a finished run), or a checkpoint folder below it."
        )
    official = source.startswith("official:")
    path = Path(source.removeprefix("official:")) if official else checkpoint.best_of(Path(source))
    saved = None if official else checkpoint.load(path)
    vocabulary = path.parent.parent / "vocab.txt"
    if tokenizer_source(config) == WORDPIECE and (official or not vocabulary.is_file()):
        raise UserError(
            f"{FIELD}=wordpiece builds a vocabulary from training expressions, which is not the one that "
            f"{path} was trained with. Set {FIELD}=hub:google-bert/bert-base-uncased or a local vocab.txt."
        )
    started, clock = datetime.now(UTC), time.perf_counter()
    setting = Setting.prepare(config, console, overrides)
    seed_everything(config["seed"])
    if saved is None:
        model = load_official(config["model"]["name"], path, **config["model"]["args"])
        weights, selection = checkpoint.sha256(path), None
        note = f"official checkpoint {path.name}"
    else:
        hint = "Give the overrides that it was trained with (config.yaml in its run's folder)."
        model = build.restore_model(config, saved, hint)
        weights, selection = frozen.weights_sha256(saved.path), setting.protocol.selection_split
        note = f"checkpoint {saved.path.name} of {saved.path.parent.parent.name}"
    fabric = build.build_fabric(config["trainer"])
    model = model.to(fabric.device)
    text = build.build_text(config, model, setting.data.splits["train"], vocabulary)
    train_hash = hashing.digest({"weights": weights, "model": config["model"]["name"]})
    setting = dataclasses.replace(
        setting,
        train_hash=train_hash,
        eval_hash=hashing.digest({"train": train_hash, "evaluation": setting.eval_hash}),
        run_id=f"{setting.run_id.rpartition('-')[0]}-{setting.protocol.name}-{weights[:8]}",
    )
    with StopRequest() as stop:
        scores = _score(setting, model, text, fabric, stop, console)
    wall_s = time.perf_counter() - clock
    origin = dataclasses.replace(
        origin_of(setting, model, fabric, weights),
        epochs=None,
        selection_split=selection,
        selection_metric=None if selection is None else setting.protocol.selection_metric,
    )
    record = make_record(setting, origin, scores, started=started, wall_s=wall_s, notes=[note, *_text_notes(text)])
    keep(setting, record, scores)
    publish(setting, record, scores, console)


def _sizes(setting: Setting) -> str:
    return ", ".join(f"{split} {len(dataset):,}" for split, dataset in setting.data.splits.items())


def _build(setting: Setting, console: Console) -> tuple[Segmenter, TextPipeline]:
    """Seed, then build model and text pipeline; says how many expressions are cut."""
    seed_everything(setting.config["seed"])
    model = build.build_model(setting.config)
    text = build.build_text(setting.config, model, setting.data.splits["train"], setting.run_dir / "vocab.txt")
    names = json.dumps(list(setting.data.splits["train"].category_names), ensure_ascii=False)
    (setting.run_dir / build.CATEGORIES).write_text(names, encoding="utf-8")
    for split, dataset in setting.data.splits.items():  # all of them now: a refusal must not wait until after training
        report = text.report(build.expressions_of(dataset))
        if report.truncated:
            console.print(
                f"[yellow]{report.truncated} of {report.n} {split} expressions are longer than {text.max_tokens} "
                f"tokens and lose their end (the longest has {report.longest}).[/yellow]"
            )
    return model, text


def _score(
    setting: Setting, model: Segmenter, text: TextPipeline, fabric: Fabric, stop: StopRequest, console: Console
) -> Scores:
    """The test split and its language controls, as the configuration says."""
    scores = score_split(
        model,
        setting.data.splits["test"],
        text,
        setting.protocol,
        fabric,
        batch_size=setting.config["trainer"]["eval_batch_size"],
        num_workers=setting.config["trainer"]["num_workers"],
        controls=setting.config["controls"],
        stop=stop,
        console=console,
        save=setting.predictions,
        view_cache=ViewCache.from_config(setting.config["data"]),
    )
    if setting.predictions:
        console.print(f"Predictions: {setting.predictions}", soft_wrap=True)
    return scores


def _text_notes(text: TextPipeline) -> list[str]:
    """What a reader of the row must know of the phrase masks: another tagger than the suite's own marks other words."""
    return [] if text.tagger in (None, "lexicon") else [f"phrases tagged by NLTK's {text.tagger} tagger"]


def _draw(
    setting: Setting, fabric: Fabric, model: Segmenter, text: TextPipeline, record: Record, scores: Scores
) -> None:
    """The run's gallery, for a person to look at."""
    split = setting.data.splits["test"]
    data = ViewDataset(split, model.views, text, native_masks=True)
    predict = gallery.predictor(model, data, fabric, align_corners=setting.protocol.align_corners)
    gallery.write(setting.run_dir / gallery.NAME, record, scores.table, split, predict)


def _train(
    setting: Setting,
    fabric: Fabric,
    model: Segmenter,
    text: TextPipeline,
    events: EventLog,
    stop: StopRequest,
    console: Console,
) -> Path:
    """Train to the end (or resume) and return the best checkpoint's folder."""
    config, trainer = setting.config, setting.config["trainer"]
    views = partial(
        ViewDataset,
        cache_bytes=int(trainer["cache_gb"] * 2**30),
        view_cache=ViewCache.from_config(config["data"]),
    )
    train = views(
        setting.data.splits["train"],
        model.views,
        text,
        native_masks=False,
        seed=config["seed"],
        augment=setting.recipe.augment,
    )
    selection = setting.data.splits[setting.protocol.selection_split]
    val = views(selection, model.views, text, native_masks=True)

    def validate(current: Segmenter) -> dict[str, float]:
        from rrsis_bench.eval.evaluate import predict_and_count

        table = predict_and_count(
            current,
            val,
            setting.protocol,
            fabric,
            batch_size=trainer["eval_batch_size"],
            num_workers=trainer["num_workers"],
            on_batch=lambda _: stop.raise_if_requested(),
        )
        scores = compute_overall(table, setting.protocol)
        return {name: scores.value(name) or 0.0 for name in ("miou", "oiou", "pr50")}

    return Trainer(
        fabric,
        model,
        train,
        validate,
        selection_metric=setting.protocol.selection_metric,
        recipe=setting.recipe,
        machine=codec.decode(TrainerConfig, trainer, "The configuration", path="trainer"),
        seed=config["seed"],
        run_dir=setting.run_dir,
        identity={"train_hash": setting.train_hash, "seed": str(config["seed"])},
        events=events,
        stop=stop,
        console=console,
    ).fit()
