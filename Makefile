# Palimpsest. `make` alone lists the targets. Settings are environment variables (docs/operations.md); PORT and DATA are short for two of them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
PORT ?= 8000
DATA ?= ./var
export PALIMPSEST_PORT ?= $(PORT)
export PALIMPSEST_VAR_DIR ?= $(DATA)
export OMP_NUM_THREADS := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run cluster test long check demo first-minutes doctor bench openapi site dist clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The first stamp is what the service needs, the second adds what tests and checks need.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Palimpsest needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) '$(TORCH)'
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

# The CPU build is all that a laptop needs; on a machine with a GPU: make run TORCH=torch
TORCH ?= torch==2.13.0

run: $(VENV)/.installed ## set everything up and serve on 127.0.0.1:$PORT, data below $DATA
	$(BIN)/palimpsest serve

test: $(VENV)/.installed-dev ## the whole test suite: the parallel part, then what measures time or kills processes
	$(BIN)/pytest -q -n 2 -m 'not serial'
	$(BIN)/pytest -q -m serial

long: $(VENV)/.installed-dev ## what takes hours: 500 walks of 50 steps beside each model, 1,000 rounds of faults, 10,000 contended corrections
	STATEFUL_EXAMPLES=500 $(BIN)/pytest -q tests/store/test_store_stateful.py tests/cluster/test_coord_stateful.py
	$(BIN)/python -m bench cluster-contention --appends 10000
	$(BIN)/python -m bench cluster-crash --rounds 1000 --ledger docs/measured/cluster-crash.jsonl

check: $(VENV)/.installed-dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(VENV)/.installed ## the story on real utterances, with a progress bar
	$(BIN)/python -m bench demo

first-minutes: $(VENV)/.installed-dev ## the first page's commands from an empty directory to an answer in other words, timed
	rm -rf build/lib build/first && $(BIN)/python -m build --wheel --outdir build/first .
	$(BIN)/python -m bench first-minutes --wheel build/first/*.whl

cluster: $(VENV)/.installed-dev ## a whole cluster on this machine: PostgreSQL, Redis, S3, two apis, two workers, jobs
	$(BIN)/python -m bench cluster

doctor: $(VENV)/.installed ## learn, recall, supersede, consolidate, roll back, forget on a scratch bank
	$(BIN)/palimpsest doctor

BOARDS := corrections incremental facts supersession abstention capacity cost ablation
bench: $(VENV)/.installed ## the correction scoreboard and its page in docs/results.md: hours, goes on where it was cut off (data from $PALIMPSEST_DATA)
	for board in $(BOARDS); do $(BIN)/python -m bench $$board --json docs/scoreboard/$$board.json || exit 1; done
	$(BIN)/python -m bench results

openapi: $(VENV)/.installed-dev ## write docs/openapi.json from the code
	$(BIN)/python -m service.api > docs/openapi.json

site: $(VENV)/.installed-dev ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

dist: $(VENV)/.installed-dev ## wheel, source distribution and what the service is made of (CycloneDX), below dist/
	$(PIP) -e '.[release]'
	rm -rf dist && $(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv --clear build/clean && build/clean/bin/pip install --quiet '$(TORCH)' "$$(ls dist/*.whl)[s3,otel,mcp]"
	$(BIN)/cyclonedx-py environment build/clean/bin/python --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json
	build/clean/bin/palimpsest --version

clean: ## remove the virtual environment and caches (never the data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
