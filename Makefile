# `make` lists the targets. Everything lives in .venv; nothing outside the repository is touched, but for Debian packages
# that `make test` and `make bench` install when they run as root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := packages/lb-speedups
PACKAGES := $(filter-out $(COMPILED),$(wildcard packages/*))
SOURCES := $(wildcard packages/*/src)
GENERATORS := $(wildcard docs/generate_*.py)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test compiler check lint types docs unit hostile fuzz bench bench-instructions bench-features bench-memory bench-workers simulate-cluster constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with every package editable and .venv/bin/lb
	@echo "installed: $(BIN)/lb"

demo: $(STAMP) ## watch real traffic balanced over three backends
	@$(BIN)/lb demo $(ARGS)

test: compiler $(STAMP) check ## check, then every test (ARGS="-k name" for some)
	@tools/ensure-commands curl:curl haproxy:haproxy nginx:nginx-light redis-server:redis-server redis-sentinel:redis-sentinel
	@tools/run-tests $(ARGS)

compiler: # for lb-speedups, which is part of what is tested
	@tools/ensure-commands cc:gcc
	@[ ! -e $(STAMP) ] || $(BIN)/python -c 'import lb_speedups' 2>/dev/null || rm -f $(STAMP)

check: lint types ## format, lint, types, layers and generated pages, without running a test
	@$(BIN)/lint-imports --no-cache --no-logo
	@for page in $(GENERATORS); do $(BIN)/python $$page --check || exit 1; done

lint: $(STAMP) ## ruff, formatting and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(STAMP) ## mypy --strict on sources, examples and benchmarks
	@$(BIN)/mypy $(SOURCES) benchmarks docs tests/support
	@for example in $(sort $(dir $(wildcard examples/*/*.py))); do MYPYPATH=$$example $(BIN)/mypy $$example || exit 1; done

unit: $(STAMP) ## the unit tests only, fast (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -q packages $(ARGS)

hostile: $(STAMP) ## 4,000 slow clients for 20 s in each of slowhttptest's modes, with the figures (ARGS="-k read" for some)
	@tools/ensure-commands slowhttptest:slowhttptest
	@LB_HOSTILE=1 $(BIN)/python -m pytest -q -s tests/integration/test_slow_clients.py tests/integration/test_descriptors.py $(ARGS)

fuzz: $(STAMP) ## 20,000 broken requests and responses against the invariants (ARGS="--seed 1 --count 100000")
	@$(BIN)/python -m tests.fuzz.run --count 20000 $(ARGS)

soak: $(STAMP) ## a million mixed requests, and what they leave in memory (ARGS="--requests 100000")
	@$(BIN)/python -m tests.soak.run $(ARGS)

docs: $(STAMP) ## write the generated pages of docs/ again
	@for page in $(GENERATORS); do $(BIN)/python $$page || exit 1; done

bench: $(STAMP) ## lb beside nginx, HAProxy and Caddy, CPU per request (ARGS="--workloads get --rounds 9")
	@tools/ensure-commands nginx:nginx-light haproxy:haproxy caddy:caddy wrk:wrk
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-instructions: $(STAMP) ## instructions per request under callgrind
	@tools/ensure-commands valgrind:valgrind
	@$(BIN)/python -m benchmarks.instructions $(ARGS)

bench-features: $(STAMP) ## what each feature adds to a request, in instructions (ARGS="--only sticky" for some)
	@tools/ensure-commands valgrind:valgrind
	@$(BIN)/python -m benchmarks.features $(ARGS)

bench-memory: $(STAMP) ## memory of 10,000 idle connections and of 1 GiB bodies
	@$(BIN)/python -m benchmarks.memory $(ARGS)

bench-workers: $(STAMP) ## what two workers serve beside one, lb and nginx (ARGS="--rounds 9"); needs root
	@tools/ensure-commands nginx:nginx-light wrk:wrk
	@$(BIN)/python -m benchmarks.workers $(ARGS)

simulate-cluster: $(STAMP) ## a thousand nodes and ten million keys: limits, Redis, leader (ARGS=--write for docs/scale.md)
	@$(BIN)/python -m benchmarks.cluster_model $(ARGS)

constraints: $(STAMP) ## write constraints.txt again from the newest releases
	@$(BIN)/uv export --upgrade --all-packages --no-hashes --no-emit-workspace --quiet --output-file constraints.txt >/dev/null

clean: ## remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov dist

# A venv whose interpreter went away leaves a dangling link, which make takes for a missing file: it is made again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lb needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1). Name another one: make install PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks the venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)

$(STAMP): constraints.txt pyproject.toml $(wildcard packages/*/pyproject.toml) | $(BIN)/python
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev $(PACKAGES:%=--editable %)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable $(COMPILED) 2>/dev/null || \
	  echo "lb-speedups was not built: it needs a C compiler and Python's headers; lb does without, in Python"
	@touch $@
