# rrsis-bench: plain verbs over the console script. `make help` lists them.
SHELL := /bin/bash
MODEL ?= fianet
DATA  ?= synthetic
SIZE  ?=
SEED  ?= 0
ARGS  ?=
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 0
SLURM_INSTALL ?=
BIN   := .venv/bin
RUN   := model=$(MODEL) data=$(DATA) seed=$(SEED) $(if $(SIZE),size=$(SIZE)) $(ARGS)
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help bench test test-all test-lowest test-reliability test-slurm fuzz coverage mutants attack test-tables perf perf-data reference-sam2 docs lint data compare report clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16
	@echo "Variables: MODEL=$(MODEL) DATA=$(DATA) SIZE=$(SIZE) SEED=$(SEED) ARGS='hydra overrides'"

$(STAMP): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || { echo "Setting up .venv (once, some minutes)"; python3 -m venv .venv; }
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]' && touch $@

bench: $(STAMP)  ## train, evaluate, write the leaderboards: make bench MODEL=lavt DATA=synthetic
	@$(BIN)/rrsis-bench bench $(RUN)

test: $(STAMP)  ## the fast tests (CPU only, under 5 minutes on 2 cores)
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(PYTEST_ARGS)

test-all: $(STAMP)  ## every test, the slow ones too (paper-size models: 10 GB of memory)
	@$(BIN)/python -m pytest

coverage: $(STAMP)  ## the fast tests with coverage; fails below the floor in pyproject.toml
	@$(MAKE) --no-print-directory test PYTEST_ARGS="--cov --cov-report=term:skip-covered"

test-lowest:  ## the fast tests with the lowest supported versions, in .venv-lowest
	@test -x .venv-lowest/bin/python || python3.11 -m venv .venv-lowest
	@.venv-lowest/bin/python .ci/lowest.py > .venv-lowest/constraints.txt
	@.venv-lowest/bin/python -m pip install --disable-pip-version-check -q -c .venv-lowest/constraints.txt -e '.[dev]'
	@.venv-lowest/bin/python -m pytest -m "not slow" -n 2 --dist loadfile

attack: $(STAMP)  ## attempts to get a wrong row ranked, and what happened to each
	@$(BIN)/python -m tests.attack

test-tables: $(STAMP)  ## 8 writers, 2 regenerators and 60 kills on one leaderboards folder
	@$(BIN)/python -m pytest -n 0 -s tests/results/test_concurrency.py

mutants: $(STAMP)  ## wrong wirings of the models, each of which a test must notice
	@$(BIN)/python -m tests.mutants

fuzz: $(STAMP)  ## damaged input files, 10 minutes: make fuzz FUZZ_SECONDS=60 FUZZ_SEED=7
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

test-reliability: $(STAMP)  ## SIGKILL at random moments, and every model continued bit for bit (some minutes)
	@$(BIN)/python -m pytest tests/reliability -n 2

test-slurm: $(STAMP)  ## sweeps and predictions on a real SLURM of one node; SLURM_INSTALL=1 installs it first (Debian)
	@if [ "$(SLURM_INSTALL)" = 1 ]; then apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; fi
	@$(BIN)/python -m pytest tests/slurm -m slow -n 0 -s -rs

perf: $(STAMP)  ## timings, each compared with the plain way in the same run
	@$(BIN)/python -m pytest tests/perf -m slow -s

perf-data: $(STAMP)  ## samples/s of the data pipeline, compared with the plain way
	@$(BIN)/python -m tests.perf.perf_data

reference-sam2: $(STAMP)  ## Meta's own SAM 2, which the slow tests compare with
	@$(BIN)/python -m pip install --disable-pip-version-check -q --target .venv/reference-build "setuptools>=77,<82"
	@SAM2_BUILD_CUDA=0 PYTHONPATH=$(CURDIR)/.venv/reference-build $(BIN)/python -m pip install \
		--disable-pip-version-check -q --no-build-isolation --no-deps --target .venv/reference sam2==1.1.0
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --target .venv/reference \
		iopath==0.1.10 portalocker==4.4.2

docs: $(STAMP)  ## the documentation in docs/_build/html; warnings are errors, no network
	@$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html && echo "docs/_build/html/index.html"

lint: $(STAMP)  ## ruff, its formatter and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

data: $(STAMP)  ## verify the dataset: make data DATA=rrsisd
	@$(BIN)/rrsis-bench data verify $(DATA) $(ARGS)

compare: $(STAMP)  ## two rows of a leaderboard: make compare A=lavt B=fianet
	@$(BIN)/rrsis-bench compare $(A) $(B) --data $(DATA) $(ARGS)

report: $(STAMP)  ## write tables and leaderboards/index.html from the records, print one table
	@$(BIN)/rrsis-bench report $(DATA)

clean:  ## runs, caches and the virtual environment; never the leaderboards
	rm -rf runs .cache .venv .venv-lowest .coverage .pytest_cache .ruff_cache .mypy_cache *.egg-info docs/_build docs/reference
