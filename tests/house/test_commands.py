"""Every command that README, CONTRIBUTING, docs/ and the help texts show is one of the suite, and runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rrsis_bench import cli, resources
from rrsis_bench.config import cards, compose
from rrsis_bench.describe import own_data
from rrsis_bench.resources import ROOT
from rrsis_bench.run import __main__ as run_module
from rrsis_bench.run import plan, record, score
from tests.house.documented import COUNTS, DOCUMENTS, NARROW, SHORT, Command, commands, overrides, sandbox

COMMANDS = commands()
OWN = [command for command in COMMANDS if command.words[0] == "rrsis-bench"]
MAKE = [command for command in COMMANDS if command.words[0] == "make"]
OTHERS = {"source", "git", "cd", "try=$(mktemp", "$try/venv/bin/pip", "venv/bin/rrsis-bench"}
RUN_ID = re.compile(r"\b[a-z_]+-[a-z_]+-(?:tiny|paper)-s\d-[0-9a-f]{8}\b")
ELSEWHERE = {
    "official:": "authors' files: tests/models/test_official.py",
    "--weights": "authors' files: tests/predict/test_predictor.py",
    "--launcher slurm": "a cluster: tests/slurm, tests/run/test_slurm_jobs.py",
    "../before/runs": "two checkouts: tests/results/test_integers.py",
    "--against-root": "two datasets: tests/data/test_shared_images.py",
    "instances.json": "COCO files: tests/data/test_own_data.py",
    "objects.geojson": "polygons: tests/data/test_own_data.py",
}
"""Part of a command -> why this file only parses it, and which tests run the like."""
ANSWERS = {"published check": (0, 1), "doctor": (0, 1)}
"""Verb -> exit codes that are answers; 0 for all others."""


def runs_here(command: Command) -> bool:
    return not any(part in command.text for part in ELSEWHERE)


def test_the_documents_show_commands():
    assert len(OWN) > 60
    assert {command.words[1] for command in OWN} >= {"bench", "evaluate", "predict", "score", "data", "check", "show"}


@pytest.mark.parametrize("command", OWN, ids=lambda command: command.text)
def test_a_documented_command_parses(command):
    if command.words[1] in ("bench", "evaluate") and not {"--rerun", "--rescore"} & set(command.words):
        words = [word for word in command.words[2:] if word != "-m"]
        assert all("=" in word for word in words), "Hydra overrides"
    else:
        cli.build_parser().parse_args(list(command.words[1:]))


def test_every_other_command_is_make_or_a_known_tool():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in MAKE:
        words = [word for word in command.words[1:] if word not in ("-C", "../before")]
        for word in words:
            name, is_variable, _ = word.partition("=")
            known = rf"^{name} *\?=|\$\({name}\)" if is_variable else rf"^{name}:"
            assert re.search(known, makefile, re.MULTILINE), f"{command.where}: {command.text}"
    others = {command.words[0] for command in COMMANDS} - {"rrsis-bench", "make", "python", "pip"}
    assert others <= OTHERS


def test_verbs_within_sentences_exist():
    for pattern in DOCUMENTS:
        for path in ROOT.glob(pattern):
            for found in re.findall(r"`rrsis-bench ((?:data |published )?[a-z]+)\b", path.read_text(encoding="utf-8")):
                with pytest.raises(SystemExit) as stop:
                    cli.build_parser().parse_args([*found.split(), "--help"])
                assert stop.value.code == 0, f"{path.name}: {found}"


# --- slow: they run


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The sandbox with two runs on a small RRSIS-D and two on scenes, from a clean commit."""
    root = tmp_path_factory.mktemp("documented")
    work = sandbox(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("COLUMNS", "120")
        patch.setattr(plan, "git_state", lambda *_: ("c" * 40, False))
        patch.setattr(score, "git_state", lambda *_: ("c" * 40, False))
        patch.setattr(record, "CHECKOUT", work)  # so that results of own data go where they go in a clone
        for module in (resources, cards, compose, own_data):  # what `data init` writes stays in the sandbox
            patch.setattr(module, "LOCAL", root / "local")
        runs = {}
        for model in ("lavt", "fianet", "csinet"):
            start(["bench", f"model={model}", "data=rrsisd", "size=tiny", COUNTS, *SHORT, *NARROW, "predictions=save"])
            (runs[model],) = (path.name for path in (work / "runs").glob(f"{model}-rrsisd-*"))
        for model in ("lavt", "fianet"):
            words = ("rrsis-bench", "bench", f"model={model}", "data=synthetic")
            start([*words[1:], *overrides(words)])
        shutil.copy(work / "runs" / runs["lavt"] / "predictions" / "test.jsonl", work / "masks.jsonl")
        for name in ("before.csv", "after.csv", "old.csv", "new.csv"):
            shutil.copy(work / "leaderboards" / "rrsisd.csv", work / name)
        shutil.copytree(
            work / "leaderboards" / "records" / "rrsisd" / "lavt", work / "one" / "records" / "rrsisd" / "lavt"
        )
        (work / "table.csv").write_text("Pr@0.5,Pr@0.6\n66.22,56.83\n")
        yield SimpleNamespace(root=root, work=work, run=runs["lavt"], other=runs["fianet"])


@pytest.fixture
def harbour(place) -> None:
    """The configuration that the page on own data writes first."""
    if "harbour" not in resources.names("data"):
        start(["data", "init", "harbour", "--root", str(place.root / "harbour")])


def start(arguments: list[str], codes: tuple[int, ...] = (0,)) -> None:
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code or 0
    assert code in codes, arguments


def filled(words: tuple[str, ...], place: SimpleNamespace) -> list[str]:
    """The words of a command with the names of the sandbox."""
    texts = [word.replace("OTHER_RUN", place.other) for word in words]
    texts = [RUN_ID.sub(place.run, re.sub(r"\bRUN\b", place.run, text)) for text in texts]
    return [re.sub(r"(^|=| )/(data|scratch)/", rf"\1{place.root}/", text) for text in texts]


def run(words: tuple[str, ...], place: SimpleNamespace) -> None:
    for folder in ("out", "plain"):
        shutil.rmtree(place.work / folder, ignore_errors=True)
    arguments = filled(words, place)
    if words[0] == "python":
        assert run_module.main([*arguments[3:], *overrides(words)]) == 0
        return
    added = overrides(words) if words[1] in ("bench", "evaluate") else []
    added += ["--leaderboards", "one"] if words[1] == "report" else []  # toy models have equal masks, which it refuses
    codes = next((codes for verb, codes in ANSWERS.items() if " ".join(words[1:]).startswith(verb)), (0,))
    start([*arguments[1:], *added], codes)


@pytest.mark.slow
@pytest.mark.parametrize("command", list(filter(runs_here, OWN)), ids=lambda command: command.text)
def test_a_documented_command_runs(command, place, request):
    if "init" in command.words:
        (place.root / "local" / "data" / "harbour.yaml").unlink(missing_ok=True)
    elif "harbour" in command.words or "data=harbour" in command.words:
        request.getfixturevalue("harbour")
        if "leaderboard" in command.words and not (place.work / "runs" / "leaderboards").exists():
            words = ("rrsis-bench", "bench", "model=lavt", "data=harbour", "size=tiny")
            run(words, place)
    run(command.words, place)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [one for one in COMMANDS if one.words[:3] == ("python", "-m", "rrsis_bench.run")],
    ids=lambda command: command.text,
)
def test_a_documented_module_runs(command, place):
    run(command.words, place)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [one for one in MAKE if {"bench", "data", "compare", "report"} & set(one.words) and "-C" not in one.words],
    ids=lambda command: command.text,
)
def test_a_documented_make_target_runs(command, place):
    """The command that make would start, in the sandbox."""
    done = subprocess.run(
        ["make", "-n", "-C", str(ROOT), *command.words[1:]], capture_output=True, text=True, check=True
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(".venv/bin/rrsis-bench"))
    words = shlex.split(line)
    run(("rrsis-bench", *words[1:]), place)


def test_every_command_that_is_only_parsed_says_where_the_like_runs():
    for part, where in ELSEWHERE.items():
        assert [command for command in OWN if part in command.text], part
        for path in re.findall(r"tests/[\w/.]+", where):
            assert Path(ROOT / path).exists(), path
