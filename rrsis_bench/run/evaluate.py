"""`rrsis-bench evaluate`: score weights that exist already, and record the result.

The weights are those of a run, of a checkpoint folder outside a run, or of a paper's authors. For a run, its folder
gives everything that belongs to training. For other weights, the record leaves unknown values empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rrsis_bench import registry
from rrsis_bench.config import hashes
from rrsis_bench.config.compose import compose_node, plain
from rrsis_bench.config.label import evaluated_variant
from rrsis_bench.config.overrides import check_evaluation, field_name
from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.config.schema import Config, Split
from rrsis_bench.console import Terminal
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import FROM_EXPRESSIONS
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.official import load_official
from rrsis_bench.results.record import store
from rrsis_bench.run import launch
from rrsis_bench.run.folder import CONFIG, RunFolder, shortened
from rrsis_bench.run.lock import RunLock
from rrsis_bench.run.model import build_fabric, connect, load_text, restore_model
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.provenance import RunProvenance, any_dirty
from rrsis_bench.run.record import ModelMasks, publish, score_and_record, seen_data
from rrsis_bench.run.sources import changed_sources
from rrsis_bench.train import checkpoint, frozen
from rrsis_bench.train.rng import seed_everything
from rrsis_bench.world import World

OFFICIAL = "official:"


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedMasks(ModelMasks):
    """The masks of weights that were trained in an earlier run, or elsewhere.

    Attributes:
        changes: fields of the provenance that differ from those of a run that was just trained.
        note: names the weights.
    """

    changes: dict[str, Any]
    note: str

    def provenance(self, plan: RunPlan, console: Terminal) -> RunProvenance:
        """Return the origin of the weights, with the costs measured here."""
        return dataclasses.replace(ModelMasks.provenance(self, plan, console), **self.changes)

    def notes(self, plan: RunPlan) -> list[str]:
        """Name the weights."""
        return [self.note, *ModelMasks.notes(self, plan)]


def evaluate(config: Config, console: Terminal, overrides: Sequence[str] = ()) -> None:
    """Score ``checkpoint=`` on ``splits``, with the language controls, and record the results.

    Args:
        config: composed from `overrides`.
        console: shows progress, warnings and tables.
        overrides: the overrides that the user typed.

    Raises:
        UserError: no ``checkpoint``, weights that do not fit the model, or an override that does not apply.
    """
    source = config.checkpoint
    if source and launch.is_needed(config.trainer):
        launch.start("evaluate", config, overrides)
        return
    if not source:
        raise UserError(
            "evaluate needs checkpoint=RUN (a run id, a run's folder, or a checkpoint folder in it), or "
            "checkpoint=official:/path/file.pth (a paper's released weights)."
        )
    path = Path(source.removeprefix(OFFICIAL)).expanduser()
    if not source.startswith(OFFICIAL):
        path = RunFolder.locate(path, config.runs)
    world = connect(config.trainer)
    with world.watched():
        if source.startswith(OFFICIAL) or not RunFolder.is_run(path):
            check_evaluation(overrides, None)
            _evaluate_weights(config, path, console, world)
        else:
            run = RunFolder.open(path)
            check_evaluation(overrides, run.path.name)
            used = _config_of(run, overrides, config)
            plan = world.main_first(lambda: RunPlan.prepare(used, console))
            evaluate_run(plan, run, console, world)


def _config_of(run: RunFolder, overrides: Sequence[str], config: Config) -> Config:
    """Return the configuration of a run with the overrides of an evaluation, on the devices of `config`."""
    values = run.config.plain()
    values["trainer"] |= {name: getattr(config.trainer, name) for name in ("strategy", "devices", "num_nodes")}
    values |= {"force": False, "predictions": "none", "runs": str(run.path.parent)}
    composed = plain(compose_node([f"model={run.config.model.name}", *overrides]))
    for name in sorted(map(field_name, overrides), key=lambda name: name.count(".")):  # groups before their fields
        *sections, last = name.split(".")
        target, given = values, composed
        for section in sections:
            target, given = target[section], given[section]
        target[last] = given[last]
    selection = {name: getattr(run.config.protocol, name) for name in ("selection_split", "selection_metric")}
    values["protocol"] |= selection  # the checkpoint is selected already
    return Config.parse(values)


def evaluate_run(plan: RunPlan, run: RunFolder, console: Terminal, world: World, *, reuse: bool = False) -> None:
    """Score a checkpoint of a run. The selected one, scored as in training, keeps the name of the run.

    Args:
        plan: the scoring; its configuration differs from that of the run in fields of evaluation only.
        run: the run, or one of its checkpoints.
        console: shows progress, warnings and tables.
        world: the processes of the evaluation.
        reuse: publish the record of an earlier equal scoring, if there is one.
    """
    config, manifest, weights = plan.config, run.manifest, run.weights
    saved, sha256 = checkpoint.load(weights), frozen.weights_sha256(weights)
    doubts = _doubts(run, saved, sha256)
    selected = not doubts
    train_hash, name = manifest.train_hash, manifest.run_id
    if not selected or config.trainer.precision != run.config.trainer.precision:
        train_hash = hashes.digest([train_hash, sha256, config.trainer.precision])
        name = hashes.run_id(config, train_hash)
    eval_hash = hashes.eval_hash(config, train_hash, METRIC_VERSION)
    same = eval_hash == manifest.eval_hash and plan.data.fingerprint == manifest.fingerprint
    suffix = hashes.digest([eval_hash, plan.data.fingerprint])[:8]
    note = f"evaluated from {weights.name} of {manifest.run_id}"
    note += "".join(f"; {doubt}" for doubt in doubts)
    changed = changed_sources(manifest.sources)
    if changed:
        note += f"; sources changed since the training: {shortened(changed)}"
    if plan.git[0] not in (None, manifest.git_sha):
        note += f" at commit {plan.git[0][:12]}"
    plan = dataclasses.replace(
        plan,
        data=plan.data.with_limits(**{name: manifest.limit.get(name) for name in _unscored(config)}),
        run_id=manifest.run_id if same else f"{name}-{suffix}",
        train_hash=train_hash,
        eval_hash=eval_hash,
        variant=evaluated_variant(manifest.variant, plan.variant),
        git=(manifest.git_sha, any_dirty([manifest.git_dirty, plan.git[1]])),
    )
    if reuse and not same and world.decided(lambda: _publish_earlier(plan, sha256, console)):
        return
    earlier = RunFolder(Path(config.runs) / plan.run_id)

    def spent() -> float:
        killed = not same and earlier.status == "running"
        return (earlier.spent_s(train_hash) if killed else 0.0) or manifest.train_s or manifest.wall_s

    plan = dataclasses.replace(plan, earlier_s=world.decided(spent))
    seed_everything(config.seed)  # frozen parts with random weights are not in the checkpoint
    model = restore_model(config.model, saved, f"{run.path / CONFIG} or the model's code has changed since the run.")
    changes = {} if selected else {"selection_split": None, "selection_metric": None}
    text = load_text(config, model, run.categories, run.vocabulary)
    folder = RunFolder(Path(config.runs) / plan.run_id)
    if same:
        folder = run
    else:
        world.on_main(lambda: RunFolder.create(plan, attempts=manifest.attempts))
    _score(plan, model, text, folder, sha256, changes, note, console, world)


def _publish_earlier(plan: RunPlan, sha256: str, console: Terminal) -> bool:
    """Publish the records of an earlier equal scoring; return whether there are any."""
    earlier, splits = RunFolder(Path(plan.config.runs) / plan.run_id), plan.config.splits
    if not (earlier.is_finished(plan) and earlier.manifest.weights_sha256 == sha256):
        return False
    paths = earlier.record_paths
    if not all(split in paths for split in splits):
        return False
    console.print(f"{plan.run_id} is scored already (`rrsis-bench evaluate` scores it again).")
    publish(plan.config, [(store.read(paths[split]), store.read_counts(paths[split])) for split in splits], console)
    return True


def _unscored(config: Config) -> list[Split]:
    """Return the splits of the training alone; how much of them was used is not known from today's copy of the data."""
    return [split for split in ("train", "val") if split not in config.splits]


def _evaluate_weights(config: Config, path: Path, console: Terminal, world: World) -> None:
    """Score an authors' file, or a checkpoint folder that belongs to no run."""
    if config.tokenizer in FROM_EXPRESSIONS:
        raise UserError(
            f"text.tokenizer={config.tokenizer} builds a vocabulary from training expressions. {path} was trained with "
            "another one. Set text.tokenizer to hub:google-bert/bert-base-uncased or to a local vocab.txt."
        )
    saved = None if str(config.checkpoint).startswith(OFFICIAL) else checkpoint.load(path)
    plan = world.main_first(lambda: RunPlan.prepare(config, console))
    if saved is None:
        model, sha256 = load_official(config.model.name, path, **config.model.args), sha256_file(path)
        note = f"official checkpoint {path.name}"
    else:
        hint = "Name the model and the arguments that it was trained with."
        model, sha256 = restore_model(config.model, saved, hint), frozen.weights_sha256(path)
        note = f"checkpoint {path.name}"
    train_hash = hashes.digest([config.model.name, sha256, plan.data.fingerprint])
    eval_hash = hashes.eval_hash(config, train_hash, METRIC_VERSION)
    run_id = f"{config.model.name}-{config.data.name}-{config.size.name}-{config.protocol.name}-{eval_hash[:8]}"
    data = plan.data.with_limits(**dict.fromkeys(_unscored(config)))
    plan = dataclasses.replace(plan, data=data, run_id=run_id, train_hash=train_hash, eval_hash=eval_hash)
    unknown: dict[str, Any] = dict.fromkeys(("seed", "epochs", "selection_split", "selection_metric"))
    if saved is None:
        unknown["trained_on"] = seen_data(config.model.card, released=True)
    text = load_text(config, model, plan.data.splits["train"].category_names, path)
    world.on_main(lambda: RunFolder.create(plan))
    _score(plan, model, text, RunFolder(Path(config.runs) / plan.run_id), sha256, unknown, note, console, world)


def _score(
    plan: RunPlan,
    model: Segmenter,
    text: TextPipeline,
    folder: RunFolder,
    sha256: str,
    changes: dict[str, Any],
    note: str,
    console: Terminal,
    world: World,
) -> None:
    """Score the splits, keep the records in `folder` and publish them."""
    fabric = build_fabric(plan.config.trainer)
    save = plan.config.predictions == "save"
    masks = TrainedMasks(model.to(fabric.device), text, fabric, sha256, save, changes, note)
    with ExitStack() as stack:
        lock = RunLock(folder.path.parent, folder.path.name, plan.config, console)
        world.on_main(lambda: stack.enter_context(lock))
        scored = score_and_record(plan, masks, folder, console, world)
    if world.is_main:
        if folder.status == "running":
            folder.update("finished", weights_sha256=sha256, wall_s=plan.elapsed())
        publish(plan.config, scored, console)


def _doubts(run: RunFolder, saved: checkpoint.Checkpoint, sha256: str) -> list[str]:
    """Return why a checkpoint is not known to be the one that the run selected; empty if it is."""
    manifest, config = run.manifest, run.config
    doubts = []
    if run.weights.name != manifest.best or sha256 != manifest.weights_sha256:
        doubts.append("not the checkpoint that the run selected")
    if saved.state["identity"] != {"train_hash": manifest.train_hash, "seed": str(config.seed)}:
        doubts.append("the checkpoint belongs to another training")
    version = registry.load_class(config.model.name).version
    if hashes.train_hash(config, manifest.fingerprint or "", model_version=version) != manifest.train_hash:
        doubts.append("config.yaml or the model's version has changed since the training")
    return doubts
