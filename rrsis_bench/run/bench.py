"""`rrsis-bench bench`: train a model, evaluate it, write the record and the tables."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import ExitStack
from pathlib import Path

from lightning.fabric import Fabric
from rich.text import Text

from rrsis_bench.backbones.lora import merge_lora
from rrsis_bench.config.schema import Config, Split
from rrsis_bench.console import Terminal
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.errors import reason
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.metrics import compute_overall
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render import gallery
from rrsis_bench.run import launch
from rrsis_bench.run.check import require_contract
from rrsis_bench.run.data import expressions_of, view_cache
from rrsis_bench.run.evaluate import evaluate_run
from rrsis_bench.run.folder import RunFolder, shortened
from rrsis_bench.run.lock import RunLock, refuse_if_running
from rrsis_bench.run.model import (
    build_fabric,
    build_model,
    build_vocabulary,
    connect,
    load_text,
    restore_model,
    start_words,
)
from rrsis_bench.run.overview import show_paths, show_scores
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.provenance import device_name
from rrsis_bench.run.record import ModelMasks, publish, score_and_record
from rrsis_bench.run.sources import changed_sources
from rrsis_bench.run.sweep import status_of
from rrsis_bench.stop import StopRequest
from rrsis_bench.train import checkpoint, frozen
from rrsis_bench.train.events import EventLog, WandbMirror
from rrsis_bench.train.loop import Trainer
from rrsis_bench.train.rng import seed_everything
from rrsis_bench.world import World


def bench(config: Config, console: Terminal) -> None:
    """Train, evaluate on ``splits`` with the language controls, write the records and the tables, show them.

    Args:
        config: of the run.
        console: shows progress, warnings and tables.

    Raises:
        UserError: the run cannot start, was interrupted, or its loss is not finite.
    """
    if launch.is_needed(config.trainer):
        launch.check_batch(config)
        launch.start("bench", config)
        return
    launch.check_batch(config)
    world = connect(config.trainer)
    with world.watched(), ExitStack() as stack:
        world.on_main(lambda: refuse_if_running(config))
        plan = world.main_first(lambda: RunPlan.prepare(config, console))
        lock = RunLock(Path(config.runs), plan.run_id, config, console)
        world.on_main(lambda: stack.enter_context(lock))
        _bench(plan, world, console)


def _bench(plan: RunPlan, world: World, console: Terminal) -> None:
    config = plan.config
    run = RunFolder(Path(config.runs) / plan.run_id)
    if world.decided(lambda: run.is_finished(plan) and not config.force):
        missing = world.decided(lambda: _publish_finished(plan, run, console))
        if missing:
            again = dataclasses.replace(plan, config=dataclasses.replace(config, splits=missing))
            evaluate_run(again, run, console, world, reuse=True)
        return
    fabric = build_fabric(config.trainer)
    plan = dataclasses.replace(plan, earlier_s=world.decided(lambda: _start(plan, run, fabric, world)))
    events = EventLog(run.events if world.is_main else None, _mirror(plan, run, console, world), console)
    status, why = "failed", ""
    sizes = ", ".join(f"{split} {len(dataset):,}" for split, dataset in plan.data.splits.items())
    console.print(Text.assemble((plan.run_id, "bold"), f"  {sizes}  ->  {run.path}"))
    try:
        with world.watched(), StopRequest() as stop:
            model, text = _build(plan, run, console, world)
            best = _train(plan, run, fabric, model, text, events, stop, console)
            train_s = plan.elapsed()
            saved = checkpoint.load(best)
            if world.size > 1 and config.trainer.strategy == "fsdp":  # scored whole, in every process
                seed_everything(config.seed)  # frozen parts with random weights are not in the checkpoint
                model = restore_model(config.model, saved, f"{run.path} was just trained: report this.")
                model.to(fabric.device)
            else:
                frozen.load(model, saved)
                merge_lora(model, keep_pairs=True)
            weights = frozen.weights_sha256(best)
            masks = ModelMasks(model, text, fabric, weights, save=config.predictions == "save")
            scored = score_and_record(plan, masks, run, console, world)
        status = "finished"
        for record, _ in scored:
            name = record.split if record.split == "test" else f"{record.split}_scored"
            events.write(name, step=saved.step, miou=record.value("miou"), oiou=record.value("oiou"))
        if world.is_main:
            run.update(
                "finished", reason=None, weights_sha256=weights, best=best.name, train_s=train_s, wall_s=plan.elapsed()
            )
    except BaseException as error:
        status, why = status_of(error), reason(error)
        raise
    finally:
        if status != "finished" and world.is_main:
            run.update(status, reason=why, wall_s=plan.elapsed())
        events.write("end", status=status)
        events.close()
    if not world.is_main:
        return
    publish(config, scored, console)
    try:
        _draw_gallery(plan, run, masks, *scored[0])
    except Exception as error:  # noqa: BLE001 - the scores are published, and images never undo that
        console.print(
            Text.assemble(
                (f"The gallery was not drawn: {reason(error)}. Try again with:", "yellow"),
                f" rrsis-bench gallery {run.path}",
            ),
            soft_wrap=True,
        )
    for record, _ in scored:
        show_scores(console, record)
    show_paths(console, run)


def _start(plan: RunPlan, run: RunFolder, fabric: Fabric, world: World) -> float:
    """Check the model's contract and create the run's folder, or continue in it; return the seconds spent before."""
    require_contract(plan.config.model.name)
    if plan.config.force and run.path.exists():
        shutil.rmtree(run.path)
    name = device_name(fabric.device)
    attempt = plan.attempt(fabric.device.type, name if world.size == 1 else f"{world.size} x {name}")
    attempts = (*run.attempts_to_continue(plan), attempt)
    spent = run.spent_s(plan.train_hash)
    RunFolder.create(dataclasses.replace(plan, earlier_s=spent), attempts=attempts)
    return spent


def _publish_finished(plan: RunPlan, run: RunFolder, console: Terminal) -> tuple[Split, ...]:
    """Enter the records of a finished run on ``splits`` into the leaderboards; return the splits without a record."""
    done = run.record_paths if run.manifest.eval_hash == plan.eval_hash else {}
    missing = tuple(split for split in plan.config.splits if split not in done)
    if len(missing) < len(plan.config.splits):
        _publish_records(plan, run, console)
    if missing:
        why = f"it has no score on {', '.join(missing)}" if done else "the evaluation differs"
        console.print(f"{plan.run_id} is trained already. It is scored again, because {why}.")
    return missing


def _publish_records(plan: RunPlan, run: RunFolder, console: Terminal) -> None:
    scored = [
        (store.read(path), store.read_counts(path))
        for split, path in run.record_paths.items()
        if split in plan.config.splits
    ]
    console.print(f"{plan.run_id} is finished already (force=true trains it again).")
    changed = changed_sources(run.manifest.sources)
    if changed:
        console.print(
            Text.assemble(
                ("The code has changed since:", "yellow"),
                f" {shortened(changed)}. The row shows the run of the earlier code. force=true trains the run with the "
                "present code.",
            ),
            soft_wrap=True,
        )
    if plan.config.controls and not all(record.control for record, _ in scored):
        console.print(
            Text.assemble(
                ("Its language controls were not evaluated. To get them without training:", "yellow"),
                f" rrsis-bench evaluate checkpoint={run.path} force=true",
            ),
            soft_wrap=True,
        )
    asked = [entry if isinstance(entry, str) else str(entry.get("name")) for entry in plan.config.probes]
    if any(name not in (record.probes or {}) for name in asked for record, _ in scored):
        console.print(
            Text.assemble(
                ("Some of its probes were not asked, or the data does not allow them. To ask them without training:",
                 "yellow"),
                f" rrsis-bench evaluate checkpoint={run.path} probes=[{','.join(asked)}] force=true",
            ),
            soft_wrap=True,
        )  # fmt: skip
    if plan.config.predictions == "save" and not all(run.predictions(record.split).is_file() for record, _ in scored):
        console.print(
            Text.assemble(
                ("Its predictions were not saved, and no training is needed to get them:", "yellow"),
                f" rrsis-bench evaluate checkpoint={run.path} predictions=save",
            ),
            soft_wrap=True,
        )
    publish(plan.config, scored, console)


def _mirror(plan: RunPlan, run: RunFolder, console: Terminal, world: World) -> WandbMirror | None:
    logger = plan.config.logger
    if logger.name == "none" or not world.is_main:
        return None
    return WandbMirror(logger.project, logger.mode, plan.run_id, plan.config.plain(), run.path, console)


def _build(plan: RunPlan, run: RunFolder, console: Terminal, world: World) -> tuple[Segmenter, TextPipeline]:
    """Seed all generators, then build the model and the text pipeline. Expressions that are cut are counted."""
    config, train = plan.config, plan.data.splits["train"]
    seed_everything(config.seed)
    model = build_model(config.model)
    world.on_main(lambda: build_vocabulary(config, expressions_of(train), run.vocabulary))
    world.on_main(lambda: run.write_categories(train.category_names))
    text = load_text(config, model, train.category_names, run.vocabulary)
    if found := start_words(model, text):
        size = text.tokenizer.get_vocab_size()
        console.print(f"{found:,} of {size:,} words start from {config.text['weights']}.", soft_wrap=True)
    for split, dataset in plan.data.splits.items():  # all splits now: a refusal must not wait until after training
        report = text.report(expressions_of(dataset))
        if report.truncated:
            console.print(
                f"{report.truncated} of {report.n} {split} expressions are longer than {text.max_tokens} "
                f"tokens and lose their end (the longest has {report.longest}).",
                style="yellow",
            )
    return model, text


def _train(
    plan: RunPlan,
    run: RunFolder,
    fabric: Fabric,
    model: Segmenter,
    text: TextPipeline,
    events: EventLog,
    stop: StopRequest,
    console: Terminal,
) -> Path:
    """Train to the end, or continue an interrupted training; return the folder of the selected checkpoint."""
    config, protocol = plan.config, plan.protocol
    cache_bytes, disk = int(config.trainer.cache_gb * 2**30), view_cache(config.data)
    train = ViewDataset(
        plan.data.splits["train"],
        model.views,
        text,
        native_masks=False,
        seed=config.seed,
        augment=config.train.augment,
        cache_bytes=cache_bytes,
        view_cache=disk,
    )
    selection = plan.data.splits[protocol.selection_split]
    val = ViewDataset(selection, model.views, text, native_masks=True, cache_bytes=cache_bytes, view_cache=disk)

    def validate(current: Segmenter) -> dict[str, float]:
        table = predict_and_count(
            current,
            val,
            protocol,
            fabric,
            batch_size=config.trainer.eval_batch_size,
            num_workers=config.trainer.num_workers,
            loader_timeout=config.trainer.loader_timeout,
        )
        scores = compute_overall(table, protocol)
        return {name: scores.value(name) or 0.0 for name in ("miou", "oiou", "pr50")}

    return Trainer(
        fabric,
        model,
        train,
        validate,
        selection_metric=protocol.selection_metric,
        recipe=config.train,
        machine=config.trainer,
        seed=config.seed,
        run_dir=run.path,
        identity={"train_hash": plan.train_hash, "seed": str(config.seed)},
        events=events,
        stop=stop,
        console=console,
    ).fit()


def _draw_gallery(plan: RunPlan, run: RunFolder, masks: ModelMasks, record: Record, table: CountsTable) -> None:
    """Write the run's gallery of the samples of a record, ``report.html``."""
    split = plan.data.splits[record.split]
    views = ViewDataset(split, masks.model.views, masks.text, native_masks=True)
    predict = gallery.predictor(masks.model, views, masks.fabric, align_corners=plan.protocol.align_corners)
    gallery.write(run.path / gallery.NAME, record, table, split, predict)
