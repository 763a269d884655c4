"""The README's table is the one that the committed records give."""

from __future__ import annotations

import re
import subprocess

from rrsis_bench import registry
from rrsis_bench.config.hashes import eval_hash, train_hash
from rrsis_bench.registry import ROOT
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render import text as formats
from tests.fakes.config import parsed


def committed() -> list[Record]:
    """The records in git: a run of one's own adds one to the working tree, and must not fail a test."""
    command = ["git", "ls-files", "leaderboards/records/*.json"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [store.read(ROOT / path) for path in tracked]


def test_readme_table_follows_from_the_committed_records():
    records = committed()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- leaderboard:(\w+) -->\n(.*?)<!-- /leaderboard -->", text, re.DOTALL)
    assert block is not None
    rows = [row for row in rank(records, ROOT / "leaderboards") if row.head.data == block[1]]
    assert block[2].strip() == formats.markdown(rows).strip()


def test_readme_names_only_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target[0] or target[1]}:", makefile, re.MULTILINE), target


def test_the_committed_rows_are_what_the_commands_give_today():
    """A field that moves the hashes would leave the committed rows behind: run them again."""
    for record in committed():
        if record.model_source == "in-tree" and record.dataset_fingerprint:
            switches = [f"model.args.{switch}" for switch in record.variant]
            config = parsed(f"model={record.model}", f"data={record.data}", f"seed={record.seed}", *switches)
            version = registry.load_class(record.model).version
            trained = train_hash(config, record.dataset_fingerprint, model_version=version)
            scored = eval_hash(config, trained, record.metric_version)
            assert (record.train_hash, record.eval_hash) == (trained, scored), record.run_id
