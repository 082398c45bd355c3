# Every target sets up what it needs: Python 3.11 or newer, git and make are enough.
.DEFAULT_GOAL := test
.PHONY: test test-busy demo bench check lint types layers unit lock clean

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3 python,$(shell command -v $(p) >/dev/null 2>&1 && $(p) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
STAMP := .venv/.ready
BENCH_STAMP := .venv/.ready-to-measure

test: check unit            ## run every check and every test

# No result may depend on how fast the machine is.
test-busy: $(STAMP)         ## run the tests beside endless loops, and at the lowest priority
	@$(BIN)/python tests/busy.py --numprocesses=auto --maxprocesses=4 --dist=worksteal

demo: $(STAMP)              ## run the main job against a local fleet of faulty proxies
	@$(BIN)/proxywhirl demo --once

# ONLY=hits,reads measures a part of the cache (`python -m benchmarks.cache --help` names them) and writes nothing.
bench: $(BENCH_STAMP)       ## measure; results go to benchmarks/results and docs/performance.md
ifneq ($(ONLY),)
	@$(BIN)/python -m benchmarks.cache --only $(ONLY)
else
	@status=0; for part in cache hit_ratio import_list probes choosing yield crawl routes startup; do $(BIN)/python -m benchmarks.$$part || status=$$?; done; exit $$status
endif

check: lint types layers

lint: $(STAMP)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet

types: $(STAMP)
	@$(BIN)/mypy

layers: $(STAMP)
	@$(BIN)/lint-imports

unit: $(STAMP)
	@$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

# The environment comes from exact versions with hashes, the locks being whole: nothing is left to resolve (a resolver given
# hashes trips over a newer release of what is required with an extra). The package itself is installed in place.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer with venv on the PATH (or set PYTHON=…)" >&2; exit 1; }
	@echo "setting up .venv with $(PYTHON)"
ifneq ($(UV),)
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

# What the benchmarks compare with and draw with: nothing else needs it.
$(BENCH_STAMP): $(STAMP) requirements-bench.lock
ifneq ($(UV),)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-bench.lock
else
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-bench.lock
endif
	@touch $@

# Renew the exact versions (needs uv); the files name no index and no host.
lock:
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group dev pyproject.toml -o requirements.lock
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group bench --constraints requirements.lock -o requirements-bench.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
