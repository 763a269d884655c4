"""``predict`` over a folder or a list: progress, the closing table, the files over all images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from rich.progress import Progress
from rich.text import Text

from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.schema import LauncherConfig
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.predict import batch, job
from rrsis_bench.printing import emit_json
from rrsis_bench.results.render.terminal.board import plain_table, print_table
from rrsis_bench.run.slurm import Task, run_tasks

SHOWN = 40
"""Images in the closing table; of more, only those that failed are shown."""


def launcher(name: str | None, overrides: Sequence[str]) -> LauncherConfig:
    """Return the node ``launcher`` of ``conf/launcher/<name>.yaml`` with overrides such as ``partition=gpu``.

    Raises:
        UserError: there is no such file or field, or overrides without a name.
    """
    if name is None:
        if overrides:
            raise UserError("--launcher-set needs --launcher, such as --launcher slurm.")
        return LauncherConfig()
    fields = [f"launcher.{override.removeprefix('launcher.')}" for override in overrides]
    return compose_config([f"launcher={name}", *fields]).launcher


def predict(base: job.Request, source: batch.ModelSource, *, as_json: bool, launcher: LauncherConfig) -> int:
    """Predict on every image of ``base.image``, write the table and the GeoPackage, and show them.

    Args:
        base: the settings of every image; its image is the folder or list.
        source: the model.
        as_json: print the outcomes as JSON instead of a table.
        launcher: where the images are predicted.

    Returns:
        The exit code: 1 if an image failed.

    Raises:
        UserError: there are no images, the weights are damaged, or the settings cannot fit any image.
        Interrupted: a signal. Finished images are kept.
    """
    console = Terminal(stderr=True)
    requests = batch.requests(batch.find_images(base.image), base)
    job.check(base)
    weights = source.sha256()
    if launcher.name == "none":
        outcomes = _all(requests, weights, source, console)
    else:
        outcomes = _in_jobs(requests, weights, source, launcher, base.out, console)
    summary = batch.write_summary(outcomes, base.out)
    merged, notes = batch.merge_polygons(outcomes, base.out)
    for note in notes:
        console.print(Text(note), style="yellow", soft_wrap=True)
    if as_json:
        emit_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        _show(Terminal(), outcomes, base.image if base.image.is_dir() else base.image.parent)
        paths = ", ".join(str(path) for path in (summary, merged) if path is not None)
        Terminal().print(f"Wrote {paths}", soft_wrap=True, highlight=False)
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def _all(
    requests: Sequence[job.Request], weights: str, source: batch.ModelSource, console: Terminal
) -> list[batch.Outcome]:
    """Predict on one image after the other; the model is loaded once, when it is needed first."""
    load = cache(source.load)
    outcomes = []
    with Progress(console=console, transient=True) as progress:
        bar, inner = progress.add_task("images", total=len(requests)), progress.add_task("this image")

        def begin(steps: int) -> Callable[[int], None]:
            progress.reset(inner, total=steps)
            return lambda done: progress.advance(inner, done)

        for number, request in enumerate(requests, start=1):

            def warn(line: str, name: str = request.image.name) -> None:
                console.print(Text(f"{name}: {line}", style="yellow"), soft_wrap=True)

            started = time.monotonic()
            outcome = batch.kept(request, weights)
            if outcome is None:
                load()  # an error of the model is no error of the image
                outcome = batch.predict_one(request, load, warn, begin)
            outcomes.append(outcome)
            progress.advance(bar)
            line = f"{number}/{len(requests)}  {outcome.image}  {outcome.status}  {time.monotonic() - started:.1f} s"
            console.print(Text(f"{line}  {_first(outcome.reason)}".rstrip()), soft_wrap=True)
    return outcomes


def _in_jobs(
    requests: Sequence[job.Request],
    weights: str,
    source: batch.ModelSource,
    launcher: LauncherConfig,
    folder: Path,
    console: Terminal,
) -> list[batch.Outcome]:
    """Predict on every image that is not done yet in a job of its own."""
    outcomes = [batch.kept(request, weights) for request in requests]
    places = [place for place, outcome in enumerate(outcomes) if outcome is None]
    tasks = [Task(requests[place].image.name, partial(batch.in_a_job, requests[place], source)) for place in places]
    if tasks:
        for number, found in run_tasks(tasks, launcher, folder / ".slurm", console):
            request = requests[places[number]]
            if "error" in found:
                outcome = batch.Outcome(str(request.image), str(request.out), "failed", str(found["error"]))
            else:
                outcome = batch.Outcome(**found)
            outcomes[places[number]] = outcome
            line = f"{outcome.image}  {outcome.status}  {_first(outcome.reason)}".rstrip()
            console.print(Text(line), soft_wrap=True)
    return [outcome for outcome in outcomes if outcome is not None]


def _show(console: Terminal, outcomes: Sequence[batch.Outcome], folder: Path) -> None:
    counts = {name: sum(outcome.status == name for outcome in outcomes) for name in ("predicted", "kept", "failed")}
    shown = [outcome for outcome in outcomes if len(outcomes) <= SHOWN or outcome.status == "failed"]
    table = plain_table()
    table.add_column("image", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("pixels", "objects"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for outcome in shown:
        rows = outcome.content.get("expressions", [])
        objects = [row["objects"] for row in rows if row["objects"] is not None]
        table.add_row(
            Text(_within(folder, outcome.image)),
            Text(outcome.status, "red" if outcome.status == "failed" else ""),
            f"{sum(row['area_px'] for row in rows):,}" if rows else "",
            f"{sum(objects):,}" if objects else "",
            Text(_first(outcome.reason)),
        )
    caption = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if counts["failed"]:
        caption += ". The same command predicts the failed images again."
    print_table(console, f"{len(outcomes):,} images", table, caption)


def _within(folder: Path, image: str) -> str:
    """Return the path of an image below `folder`, or all of it."""
    return str(Path(image).relative_to(folder)) if Path(image).is_relative_to(folder) else image


def _first(text: str) -> str:
    return text.splitlines()[0] if text else ""
