# Commands of the project. Each creates the environment it needs; a second run is quick.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	command -v $$name >/dev/null 2>&1 && \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done)
BIN := .venv/bin
READY := .venv/ready
DEVELOPED := .venv/developed
BENCHED := .venv/benched
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
ENGINE := $(shell docker info >/dev/null 2>&1 && echo yes)
NODE := $(shell command -v npm >/dev/null 2>&1 && node --version 2>/dev/null | \
	grep -qE '^v(1[89]|[2-9][0-9])' && echo yes)
LEFT_OUT := $(if $(ENGINE),,not containers)$(if $(ENGINE)$(NODE),, and )$(if $(NODE),,not foreign)

.PHONY: help demo test separate lint check generate chaos bench collective clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Dragoman needs Python 3.11 or newer; install it or say PYTHON=/path/to/python3.11"; exit 1; fi
	@echo "making the environment in .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) --editable ".[openai]"
	@touch $(READY)

$(DEVELOPED): $(READY)
	@echo "adding the tools of developers to .venv"
	@$(PIP) --editable . --group dev
	@touch $(DEVELOPED)

demo: $(READY) ## start a bus and four agents, run real tasks, check every message
	@$(BIN)/dragoman demo

# Tests wait (for leases, kills and restarts) more than they compute.
TEST_PROCESSES ?= 2

test: $(DEVELOPED) ## run the tests, in TEST_PROCESSES
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "$(LEFT_OUT)"
ifneq ($(ENGINE),yes)
	@echo "left out: the cluster tests (tests/cluster), since no container engine runs here"
endif
ifneq ($(NODE),yes)
	@echo "left out: the tests in another language (tests/conformance/foreign): no Node 18 and npm here"
endif

separate: $(DEVELOPED) ## test CrewAI and AutoGen, each in an environment of its own (minutes)
	@$(BIN)/python -m pytest -m separate tests/separate

lint: $(DEVELOPED) ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

generate: $(DEVELOPED) ## write the generated parts of spec/ and docs/ again
	@$(BIN)/python tools/generate.py

check: $(DEVELOPED) ## fail when a generated part of spec/ or docs/ is out of date
	@$(BIN)/python tools/generate.py --check

CHAOS_SEED ?= 1
CHAOS_FAULTS ?= 1000
CHAOS_TASKS ?= 4000
CHAOS_GAP ?= 0.25
CHAOS_NODES ?= 1

chaos: $(DEVELOPED) ## kill, pause and cut everything off; CHAOS_SEED, _FAULTS, _TASKS, _GAP, _NODES
	@$(BIN)/python -m tests.chaos.run --seed $(CHAOS_SEED) --faults $(CHAOS_FAULTS) \
		--tasks $(CHAOS_TASKS) --gap $(CHAOS_GAP) --nodes $(CHAOS_NODES)

$(BENCHED): $(READY)
	@echo "adding what the benchmarks compare with to .venv"
	@$(PIP) --editable . --group bench
	@touch $(BENCHED)

BENCH ?= echo durable

bench: $(BENCHED) ## measure beside others in the same run; BENCH=all, or names
	@$(BIN)/python -m benchmarks $(BENCH)
	@$(BIN)/python tools/generate.py

# recorded answers of real models, a folder as benchmarks/collective/recorded.py describes it
ANSWERS ?=

collective: $(BENCHED) ## does work in tandem pay? simulated models, or ANSWERS=FOLDER of real ones
	@$(BIN)/python -m benchmarks.collective $(if $(ANSWERS),--answers $(ANSWERS)) $(COLLECTIVE)

clean: ## remove the environment and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
