"""Provenance belongs to the weights: what trained them, in every attempt, decides whether their row is ranked."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric import Fabric
from PIL import Image

from rrsis_bench import cli, registry
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.overlap import train_overlap
from rrsis_bench.data.formats import read_index
from rrsis_bench.errors import UserError
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.interfaces import NonFiniteLogits, SegmenterOutput
from rrsis_bench.resources import LEADERBOARDS
from rrsis_bench.results.board import rows as board
from rrsis_bench.results.compare.rows import compare
from rrsis_bench.results.record import store
from rrsis_bench.results.record.identity import attestation
from rrsis_bench.results.record.schema import Attempt, Record
from rrsis_bench.results.render import gallery, page
from rrsis_bench.results.render import text as formats
from rrsis_bench.run import bench as harness
from rrsis_bench.run import evaluate as evaluation
from rrsis_bench.run import plan
from rrsis_bench.run import record as recording
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.run.record import publish
from rrsis_bench.stop import Interrupted
from rrsis_bench.train import checkpoint, loop
from rrsis_bench.train.saving import TrainingCheckpoints
from tests.config.test_registry import plugin
from tests.fakes.config import parsed, tiny_overrides
from tests.fakes.image_first import ImageFirst
from tests.fakes.records import control, put, random_table, record_of
from tests.fakes.rrsisd import write_fake_rrsisd
from tests.fakes.toy import Toy, views_of

CLEAN = ("c" * 40, False)
NET = """from torch import nn
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from {package}.head import head
class Net(Segmenter):
    def __init__(self, views, max_tokens, width):
        super().__init__()
        self.views, self.max_tokens = views, max_tokens
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), head(width))
    def forward(self, views, text):
        return SegmenterOutput(self.layers(views['image'].float() / 255)[:, 0])
"""
_numbers = itertools.count()


@pytest.fixture
def toy(tmp_path, fake_root, monkeypatch):
    """A model in a package of its own, whose files a test may edit, and a clean tree."""
    package = f"rrsis_edited{next(_numbers)}"
    site = plugin(tmp_path, "edited", package=package)
    (site / package / "net.py").write_text(NET.format(package=package))
    (site / package / "head.py").write_text(
        "from torch import nn\ndef head(width):\n    return nn.Conv2d(width, 1, 1)\n"
    )
    (site / package / "conf" / "model" / "edited.yaml").write_text(
        "name: edited\ncard: {title: A plugin}\n"
        "args: {views: {image: '${size.image}'}, max_tokens: '${size.max_tokens}', width: 4}\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(plan, "git_state", lambda *_: CLEAN)
    monkeypatch.setattr(page, "build", lambda *_: b"")  # drawing takes most of the time, and no test looks at it
    monkeypatch.setattr(gallery, "write", lambda *_: None)
    monkeypatch.setattr(recording, "measure", lambda *_: Efficiency())
    yield SimpleNamespace(
        path=tmp_path,
        overrides=["model=edited", *tiny_overrides(tmp_path, fake_root), "controls=false"],
        head=site / package / "head.py",
    )
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def bench(toy: SimpleNamespace, *overrides: str) -> str:
    console = Terminal(file=io.StringIO(), width=250)
    harness.bench(parsed_anew(*toy.overrides, *overrides), console)
    return console.file.getvalue()


def parsed_anew(*overrides: str):
    """As `parsed`, without its cache: the plugin's folder is another one in every test."""
    from rrsis_bench.config.compose import compose_config

    return compose_config(overrides)


def ranked(root: Path) -> dict[str, str]:
    """Run id -> why its row is not ranked."""
    return {row.head.run_id: row.reason for row in board.rank(store.read_all(root), root)}


def records(toy: SimpleNamespace) -> list[Record]:
    return store.read_all(toy.path / "leaderboards")


def interrupted(monkeypatch: pytest.MonkeyPatch, toy: SimpleNamespace, git: tuple[str, bool]) -> None:
    """Train one epoch at `git`, then stop."""
    with monkeypatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: git)
        save = TrainingCheckpoints.save

        def stop_after(self, state):
            save(self, state)
            raise Interrupted(signal.SIGTERM)

        patch.setattr(TrainingCheckpoints, "save", stop_after)
        with pytest.raises(Interrupted):
            bench(toy)


def test_a_dirty_attempt_leaves_its_mark_on_the_row(toy, monkeypatch):
    """Bug: trained on edited code, interrupted, continued on a clean tree: the row was clean and ranked."""
    interrupted(monkeypatch, toy, ("a" * 40, True))
    bench(toy)
    (record,) = records(toy)
    assert record.git_dirty is True
    assert [(attempt.git_sha[0], attempt.git_dirty) for attempt in record.attempts] == [("a", True), ("c", False)]
    assert any("several commits: aaaaaaaaaaaa, cccccccccccc" in note for note in record.notes)
    assert ranked(toy.path / "leaderboards") == {record.run_id: "dirty tree"}


def test_an_evaluation_copies_the_attempts_of_the_training(toy, monkeypatch):
    """Bug: evaluate of a dirty training on a clean tree came out clean."""
    interrupted(monkeypatch, toy, ("a" * 40, True))
    bench(toy)
    (own,) = records(toy)
    (run,) = (toy.path / "runs").glob("edited-*")
    out = toy.path / "evaluated"
    typed = [f"checkpoint={run}", "protocol=lavt", "controls=false", f"leaderboards={out}"]
    evaluation.evaluate(parsed_anew(*typed), Terminal(file=io.StringIO()), typed)
    (record,) = store.read_all(out)
    assert (record.attempts, record.git_dirty, record.train_hash) == (own.attempts, True, own.train_hash)


def test_an_attempt_that_left_no_checkpoint_leaves_no_mark(toy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: ("a" * 40, True))
        patch.setattr(loop.Trainer, "fit", lambda _: (_ for _ in ()).throw(Interrupted(signal.SIGTERM)))
        with pytest.raises(Interrupted):
            bench(toy)
    bench(toy)
    (record,) = records(toy)
    assert (len(record.attempts), record.git_dirty) == (1, False)


def test_edited_code_is_not_continued(toy, monkeypatch):
    """Bug: a file that the model imports was edited between interruption and continuation; nobody noticed."""
    interrupted(monkeypatch, toy, CLEAN)
    toy.head.write_text(toy.head.read_text() + "# edited\n")
    with pytest.raises(UserError, match=r"head.*force=true"):
        bench(toy)
    bench(toy, "force=true")
    (record,) = records(toy)
    assert len(record.attempts) == 1


def test_a_finished_run_says_that_its_code_has_changed(toy):
    """Bug: ten broken edits of a model file each "passed", because the old table was shown."""
    bench(toy)
    assert "has changed since" not in bench(toy)
    toy.head.write_text("raise RuntimeError('broken')\n")
    shown = bench(toy)
    assert "head" in shown.partition("has changed since")[2]
    assert "force=true" in shown


def test_an_unrelated_file_is_no_change(toy):
    bench(toy)
    before = registry.load_class("edited")
    toy.head.with_name("unused.py").write_text("x = 1\n")
    assert "has changed since" not in bench(toy)
    assert registry.load_class("edited") is before


@pytest.fixture
def finished(toy) -> RunFolder:
    bench(toy)
    (run,) = (toy.path / "runs").glob("edited-*")
    return RunFolder.open(run)


def score(toy: SimpleNamespace, weights: Path) -> Record:
    out = toy.path / "scored"
    typed = [f"checkpoint={weights}", "controls=false", f"leaderboards={out}"]
    evaluation.evaluate(parsed_anew(*typed), Terminal(file=io.StringIO()), typed)
    (record,) = store.read_all(out)
    return record


def test_weights_put_in_the_place_of_the_selected_ones_are_not_selected(toy, finished):
    """A hand-picked checkpoint under the name of the selected one: selection unknown, unranked."""
    best = finished.best
    other = next(path for path in sorted(finished.path.glob("checkpoints/step-*")) if path != best)
    shutil.rmtree(best)
    shutil.copytree(other, best)
    record = score(toy, finished.path)
    assert (record.selection_split, record.selection_metric) == (None, None)
    assert any("not the checkpoint that the run selected" in note for note in record.notes)


def test_a_checkpoint_of_another_training_is_not_this_runs(toy, finished):
    saved = checkpoint.load(finished.best)
    saved.state["identity"]["train_hash"] = "0" * 64
    checkpoint.save(finished.path / "checkpoints", saved.step, saved.tensors, saved.state)
    record = score(toy, finished.path)
    assert record.selection_split is None
    assert any("belongs to another training" in note for note in record.notes)


def test_an_edited_configuration_is_noticed(toy, finished):
    """The run's file says that it was not limited, its train hash says otherwise."""
    file = finished.path / "config.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 40"))
    record = score(toy, finished.path)
    assert record.selection_split is None
    assert any("config.yaml" in note for note in record.notes)


def test_the_record_stores_every_setting_that_affects_it(finished):
    record = finished.record
    assert record.settings["train.epochs"] == 2
    assert record.settings["protocol.strict"] is False
    assert json.loads(json.dumps(record.settings)) == record.settings
    assert "train.epochs=2" in record.variant


def test_other_evaluation_settings_score_again_from_the_kept_checkpoint(toy, monkeypatch):
    """Bug: `bench X` after `bench X limit.test=2`, or with protocol.strict=true, returned the earlier row."""
    bench(toy, "limit.test=2")
    monkeypatch.setattr(loop.Trainer, "fit", lambda _: pytest.fail("trained again"))
    assert "scored again" in bench(toy)
    assert "scored already" in bench(toy)
    bench(toy, "protocol.strict=true")
    found = {(record.n, record.protocol.strict): record for record in records(toy)}
    assert set(found) == {(2, False), (4, False), (4, True)}
    assert len({record.run_id for record in found.values()}) == 3
    reasons = ranked(toy.path / "leaderboards")
    assert [reasons[found[key].run_id] for key in sorted(found)] == [
        "limited to 2 test samples; 2 of 4 samples",
        "",
        "",
    ]
    assert "protocol.strict=true" in found[4, True].variant


BROKEN_NETS = {
    "everywhere": "logits * float('nan')",
    "one pixel": "torch.cat([logits[:, :-1], logits[:, -1:] + float('inf')], dim=1)",
    "one sample": "torch.where(torch.arange(len(logits))[:, None, None] == 1, float('nan'), logits)",
}


@pytest.mark.parametrize("how", BROKEN_NETS)
def test_logits_that_are_not_finite_are_an_error_that_names_samples(fake_root, how):
    """Bug: NaN is not above 0, so a model of NaN predicted empty masks: N-acc 100 and a rank."""

    class Broken(Toy):
        def forward(self, views, text):
            logits = super().forward(views, text).logits
            return SegmenterOutput(eval(BROKEN_NETS[how], {"logits": logits, "torch": torch}))  # noqa: S307

    class BrokenFirst(ImageFirst):
        def decode(self, encoded, text):
            logits = super().decode(encoded, text).logits
            return SegmenterOutput(eval(BROKEN_NETS[how], {"logits": logits, "torch": torch}))  # noqa: S307

    data = views_of(fake_root, native_masks=True)
    named = {data.dataset[index].sample_id for index in range(4)}
    protocol = parsed("protocol=native").protocol
    for model in (Broken(), BrokenFirst()):
        with pytest.raises(NonFiniteLogits) as caught:
            predict_and_count(model, data, protocol, Fabric(accelerator="cpu", devices=1), batch_size=4)
        assert any(name in str(caught.value) for name in named)
        assert len(caught.value.rows) == (1 if how == "one sample" else 4)


def test_weights_with_nan_are_refused(toy, finished):
    saved = checkpoint.load(finished.best)
    name = next(iter(saved.tensors["model"]))
    saved.tensors["model"][name].flatten()[0] = float("nan")
    checkpoint.save(finished.path / "checkpoints", saved.step, saved.tensors, saved.state)
    with pytest.raises(UserError, match=f"NaN in {name}"):
        score(toy, finished.path)


def test_training_images_in_test_are_counted_and_unrank_the_row(tmp_path):
    """The same bytes, and the same pixels in another file format."""
    tree = write_fake_rrsisd(tmp_path)
    index = read_index("rrsisd", tree.root, {})
    cache = tmp_path / "cache"
    assert train_overlap(index, cache) == {"val": 0, "test": 0}
    train, test = (Path(index.rows[split][0].image) for split in ("train", "test"))
    shown = sum(Path(row.image) == test for row in index.rows["test"])
    shutil.copy(train, test)
    assert train_overlap(index, cache) == {"val": 0, "test": shown}
    Image.open(train).convert("RGB").save(test, format="PNG")
    assert train_overlap(index, cache) == {"val": 0, "test": shown}, "decoded pixels are compared, not bytes"
    table = random_table(200)
    few = record_of(table, train_overlap={"val": 0, "test": 2})
    assert board.unranked_reason(few) == ""
    many = record_of(table, train_overlap={"val": 0, "test": 3})
    assert board.unranked_reason(many) == "3 of 200 samples show training images"


def test_one_result_never_counts_twice(tmp_path):
    """Bug: one checkpoint, scored as seed 1 and as seed 2, was a row of two seeds."""
    put(tmp_path, seed=0)
    put(tmp_path, seed=1, weights_sha256="9" * 64, started_utc="2026-01-03T00:00:00Z")
    put(tmp_path, seed=2, weights_sha256="9" * 64, started_utc="2026-01-04T00:00:00Z")
    put(tmp_path, seed=3, table_seed=0, started_utc="2026-01-05T00:00:00Z")
    found = {row.head.seed: (len(row.records), row.reason) for row in board.rank(store.read_all(tmp_path), tmp_path)}
    first = "lavt-synthetic-tiny-s1-0123abcd"
    assert found[0] == (2, "")
    assert found[2] == (1, f"same weights as {first}")
    assert found[3] == (1, "same integers as lavt-synthetic-tiny-s0-0123abcd")
    with pytest.raises(UserError, match="has results twice"):
        store.audit(tmp_path)


CONTRADICTIONS = {
    "run_id": lambda r: dataclasses.replace(r, seed=7),
    "run_id is": lambda r: dataclasses.replace(r, train_hash="f" * 64),
    "run_id is lavt": lambda r: dataclasses.replace(r, size="paper"),
    "git_sha": lambda r: dataclasses.replace(r, git_sha="cafe"),
    "an attempt": lambda r: dataclasses.replace(r, attempts=[ATTEMPT]),
    "settings say train.epochs": lambda r: dataclasses.replace(r, settings={"train.epochs": 3}),
    "settings say protocol.strict": lambda r: dataclasses.replace(r, settings={"protocol.strict": True}),
    "settings say limit.train": lambda r: dataclasses.replace(r, settings={"limit.train": 8}),
    "control.shuffled_text": lambda r: dataclasses.replace(r, control={"shuffled_text": control(140)}),
    "efficiency.fps": lambda r: dataclasses.replace(r, efficiency=dataclasses.replace(r.efficiency, fps=-1.0)),
    "params_trainable": lambda r: dataclasses.replace(
        r, efficiency=dataclasses.replace(r.efficiency, params_trainable=9_999_999)
    ),
    "wall_s": lambda r: dataclasses.replace(r, wall_s=-3.0),
}
ATTEMPT = Attempt("2026-01-01T00:00:00Z", "a" * 40, True, None, {}, "cpu", None)


@pytest.mark.parametrize("field", CONTRADICTIONS)
def test_a_record_that_contradicts_itself_is_refused(tmp_path, field):
    table = random_table(40)
    with pytest.raises(UserError, match=field.replace(".", r"\.")):
        store.write(tmp_path, CONTRADICTIONS[field](record_of(table)), table)


def test_a_limit_that_the_split_does_not_reach_is_no_contradiction(tmp_path):
    """Bug: `bench debug=limit` on a split of fewer than 16 samples ended in a record that contradicts itself."""
    table = random_table(40)
    for limit in (40, 64):
        store.write(tmp_path / str(limit), dataclasses.replace(record_of(table), settings={"limit.test": limit}), table)
    with pytest.raises(UserError, match=r"settings say limit\.test=39"):
        store.write(tmp_path, dataclasses.replace(record_of(table), settings={"limit.test": 39}), table)


def test_a_counts_file_of_another_name_is_refused(tmp_path):
    record = put(tmp_path)
    path = store.record_path(tmp_path, record.data, record.model, record.run_id)
    name = store.read(path).counts.file
    path.with_name(name).rename(path.with_name("other.csv.gz"))
    path.write_text(path.read_text().replace(name, "other.csv.gz"))
    with pytest.raises(UserError, match=r"counts\.file is other\.csv\.gz"):
        store.read_all(tmp_path)


def test_a_target_of_another_area_than_at_native_size_is_found(tmp_path):
    table = random_table(40)
    table.rows[3] = dataclasses.replace(table.rows[3], native_area=table.rows[3].target_area + 1)
    with pytest.raises(UserError, match="another target area"):
        store.write(tmp_path, record_of(table), table)


@pytest.mark.parametrize("override", ["data.name='my data'", "runs={file}/x", "leaderboards={file}/x"])
def test_names_and_folders_are_checked_before_training(toy, monkeypatch, override):
    """Bug: `data.name="my data"` trained for hours, and then its record could not be named."""
    (toy.path / "file").touch()
    monkeypatch.setattr(loop.Trainer, "fit", lambda _: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"cannot name a file|cannot be written"):
        bench(toy, override.format(file=toy.path / "file"))


def test_a_repetition_on_another_machine_is_a_further_seed(tmp_path):
    """Bug: the result of the second machine stayed in runs/, although machines differ by as much as four ranks."""
    config = dataclasses.replace(parsed("model=lavt", "data=synthetic"), leaderboards=str(tmp_path))
    for number, name in enumerate(["Xeon (2 cores)", "EPYC (8 cores)", "EPYC (2 cores)"]):
        table = random_table(40, seed=number)
        attempt = dataclasses.replace(ATTEMPT, git_dirty=False, device_name=name)
        record = record_of(table, attempts=[attempt], weights_sha256=str(number) * 64)
        publish(config, [(record, table)], Terminal(file=io.StringIO()))
    (row,) = board.rank(store.read_all(tmp_path), tmp_path)
    assert [record.machine for record in row.records] == ["EPYC", "Xeon"]
    assert row.deviation("miou") > 0
    assert store.audit(tmp_path) == 2


def test_every_committed_record_passes_the_audit():
    assert store.audit(LEADERBOARDS) >= 9


def test_private_results_do_not_enter_tracked_tables_unless_asked(tmp_path, monkeypatch):
    """Bug: a run on own data appeared in the tables that are committed."""
    tracked = tmp_path / "checkout" / "leaderboards"
    monkeypatch.setattr(recording, "CHECKOUT", tracked.parent)
    config = dataclasses.replace(parsed("data=custom"), leaderboards=str(tracked), runs=str(tmp_path / "runs"))
    record, table = record_of(random_table(40), data="custom"), random_table(40)
    shown = Terminal(file=io.StringIO(), width=200)
    publish(config, [(record, table)], shown)
    assert not tracked.exists()
    assert "data.publish=true" in shown.file.getvalue()
    assert len(store.read_all(tmp_path / "runs" / "leaderboards")) == 1
    publish(dataclasses.replace(config, leaderboards=str(tmp_path / "own")), [(record, table)], shown)
    assert len(store.read_all(tmp_path / "own")) == 1
    assert not tracked.exists()
    asked = dataclasses.replace(config, data=dataclasses.replace(config.data, publish=True))
    publish(asked, [(record, table)], shown)
    assert len(store.read_all(tracked)) == 1


def test_a_row_names_who_verified_it_until_its_record_changes(tmp_path):
    record = put(tmp_path)
    (stored,) = store.read_all(tmp_path)
    entry = {"attestation": attestation([stored]), "by": "J. Doe, author", "date": "2026-01-09", "statement": "all"}
    (tmp_path / "verified.json").write_text(json.dumps([entry]))
    (row,) = board.rank(store.read_all(tmp_path), tmp_path)
    assert row.verified_by == ("J. Doe, author",)
    assert "lavt: verified by J. Doe, author" in formats.markdown([row])
    store.write(tmp_path, dataclasses.replace(record, wall_s=1.0), random_table(40), force=True)
    (row,) = board.rank(store.read_all(tmp_path), tmp_path)
    assert row.verified_by == ()
    (tmp_path / "verified.json").write_text(json.dumps([{"by": "x"}]))
    with pytest.raises(UserError, match=r"(?s)verified\.json.*attestation"):
        board.rank(store.read_all(tmp_path), tmp_path)


def test_every_output_gives_the_interval_as_an_interval_and_the_deviation_over_seeds(tmp_path, capsys, monkeypatch):
    """Bug: ± was half an interval here and a deviation over seeds there."""
    monkeypatch.setenv("COLUMNS", "160")
    for seed in range(3):
        put(tmp_path, model="lavt", seed=seed)
    put(tmp_path, model="fianet", quality=0.3)
    rows = board.rank(store.read_all(tmp_path), tmp_path)
    three, one = sorted(rows, key=lambda row: -len(row.records))
    deviation, bounds = f"{three.deviation('miou'):.2f}", formats.interval(three)
    texts = {"md": formats.markdown(rows), "latex": formats.latex(rows), "csv": formats.table_csv(rows)}
    assert cli.main(["leaderboard", "synthetic", "--leaderboards", str(tmp_path)]) == 0
    texts["terminal"] = capsys.readouterr().out
    texts["page"] = page.build(tmp_path, rows).decode()
    assert f"± {deviation} {bounds}" in texts["md"]
    assert rf"$\pm$ {deviation} {{\footnotesize {bounds}}}" in texts["latex"]
    assert f"±{deviation} {formats.interval(three, decimals=1)}" in texts["terminal"]
    assert f"± {deviation}" in texts["page"]
    assert formats.interval(three, decimals=1) in texts["page"]
    cells = {line["model"]: line for line in csv.DictReader(io.StringIO(texts["csv"]))}
    assert (cells["lavt"]["miou_std"], cells["fianet"]["miou_std"]) == (deviation, "")
    assert f"[{cells['lavt']['miou_lo']}, {cells['lavt']['miou_hi']}]" == bounds
    assert (cells["lavt"]["n_seeds"], cells["lavt"]["epochs"]) == ("3", "12")
    for name in ("md", "latex", "terminal", "page"):
        assert "eeds" in texts[name], name
        assert "standard deviation over" in texts[name].replace("\n", " "), name
    assert formats.seeds(one) == "1†"
    assert attestation([record for row in rows for record in row.records]) in texts["md"]


def test_no_p_is_smaller_than_the_resamples_can_tell(tmp_path):
    """Bug: p of 1e-12 after 99 resamples, from the tail that continues a counted p."""
    for seed in range(3):
        put(tmp_path, model="lavt", seed=seed, quality=0.2)
    put(tmp_path, model="fianet", seed=9, quality=0.95)
    result = compare(tmp_path, "lavt", "fianet", "synthetic", resamples=99)
    tests = [score for group in result.families["size in pixels"] for score in group.scores] + list(result.overall)
    found = [score.test.p for score in tests if score.test is not None and score.test.p is not None]
    assert min(found) == 1 / 100
    assert all(score.p_holm >= 1 / 100 for score in tests if score.p_holm is not None)
