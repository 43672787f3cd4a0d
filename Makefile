# Everything a newcomer or CI needs.  It wants Python 3.11 or newer with venv, pip
# and make; `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
VENV_BENCH ?= .venv-bench
# The oldest distributed that is supported; pyproject.toml and the README name it too.
OLDEST := 2025.11.0
# More arguments for pytest: make test ARGS="tests/unit -k breakdown"
ARGS ?=
# Tests start hundreds of processes: each would compile this package anew.
export PYTHONDONTWRITEBYTECODE :=
# Tests that run side by side: most of a cluster test is waiting.
JOBS ?= 4
SIDE_BY_SIDE := -n $(JOBS) --dist worksteal
# A real cluster beside two others may be too slow for a test's patience: what has failed
# runs once more, alone, and has to pass there.
once-more = $(1)/python -m pytest --last-failed --last-failed-no-failures none

BIN := $(VENV)/bin
# Of what is installed little is imported: Python compiles that much on its own.
PIP_FLAGS := --disable-pip-version-check --quiet --no-compile
# --no-deps and --no-index would break a fresh machine: pip takes what the user configured.
PIP_INSTALL = -m pip install $(PIP_FLAGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-oldest slow matrix wheel demos corpora attack docs coverage lint format bench browser redis clean sanitize valgrind

help: ## show this list
	@echo "make <target>, one of:"
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16 | sed 's/^/  /'
	@echo
	@echo "ARGS=\"…\" is handed to pytest (make test), to the demo (make demo) and to the"
	@echo "benchmarks (make bench ARGS=\"overhead --pairs 40\"); PYTHON=… chooses the"
	@echo "interpreter, VENV=… the place."

demo: $(VENV)/.demo ## set up, then run a rechunk out of memory and explain it
	$(BIN)/dask memdash demo rechunk $(ARGS)

# With ARGS only those tests run, in the main environment.  Otherwise the oldest version
# goes first, so that the last line is the verdict of the whole suite, which runs
# whatever the former said.
test: $(VENV)/.dev browser redis ## set up, then run all tests (or those that ARGS names)
ifeq ($(strip $(ARGS)),)
	@status=0; \
	$(MAKE) --no-print-directory test-oldest || status=1; \
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) \
	  -m "not slow and not demos and not corpora and (not attack or quick)" \
	  || $(call once-more,$(BIN)) || status=1; \
	if [ $$status = 0 ]; then exit 0; fi; \
	echo "tests failed: above, here or on distributed $(OLDEST)" >&2; exit 1
else
	$(BIN)/python -m pytest $(ARGS)
endif

# Only the files that have such tests: collecting all of them takes longer than they do.
# What tasks are found to take hangs on hooks that the others prove: `make matrix` runs
# these, too, on the oldest distributed.
IN_MATRIX := tests/cluster/test_death_evidence.py tests/cluster/test_demo.py \
  tests/cluster/test_execution.py tests/cluster/test_lines.py \
  tests/cluster/test_not_the_tasks.py

test-oldest: $(VENV_OLDEST)/.dev ## what differs between versions, on the oldest supported distributed
	$(VENV_OLDEST)/bin/python -m pytest $(SIDE_BY_SIDE) -o cache_dir=.pytest_cache/oldest \
	  -m "hooks and not slow and not demos and not corpora and not attack" \
	  $(filter-out $(IN_MATRIX),$(shell grep -rl --include='test_*.py' 'mark\.hooks' tests)) \
	  || $(call once-more,$(VENV_OLDEST)/bin) -o cache_dir=.pytest_cache/oldest

matrix: $(VENV)/.dev browser redis ## the tests on every Python and stack that is found: an hour and more
	$(PYTHON) .ci/matrix.py $(ARGS)

# From the same commit the same bytes: what is in them is as old as the commit.
wheel: $(VENV)/.dev ## an sdist and a wheel for this machine, in dist/
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist

# Each promise has its test in `make test`; these are more cases of it, and what is long.
slow: $(VENV)/.dev browser redis ## run more cases of each promise, and what takes long: a quarter of an hour
	$(BIN)/python -m pytest -n 2 --dist worksteal \
	  -m "slow and not demos and not corpora and not attack" $(ARGS) \
	  || $(call once-more,$(BIN))

demos: $(VENV)/.dev ## run the tests of every demo: five minutes
	$(BIN)/python -m pytest -m demos tests/cluster $(ARGS)

# Every case marked "corpora", wherever it is; all ways to die, those of make test too.
corpora: $(VENV)/.dev browser ## run every way to die, every case of every matrix
	$(BIN)/python benchmarks simulated_deaths controls
	GUARD_WORLDS=5000 $(BIN)/python -m pytest tests/unit/test_guard_state_machine.py
	$(BIN)/python -m pytest -m "not corpora" tests/cluster/test_zoo.py
	$(BIN)/python -m pytest -m corpora $(ARGS)

attack: $(VENV)/.attack ## do the worst to real clusters, and print what held
	$(BIN)/python -m pytest tests/attack $(ARGS)

docs: $(VENV)/.docs ## build the documentation site into docs/_build
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky \
	  --quiet --doctree-dir build/doctrees docs docs/_build
	@echo "open docs/_build/index.html"

coverage: $(VENV)/.attack ## which lines of the package the unit tests run
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/unit --cov=dask_memdash \
	  --cov-branch --cov-report=term-missing:skip-covered $(ARGS)

sanitize: $(VENV)/.dev ## the native tally's tests on a build with ASan and UBSan
	CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1" \
	  $(BIN)/python setup.py -q build --build-lib build/sanitize \
	  --build-temp build/sanitize-objects
	PYTHONPATH=$(CURDIR)/build/sanitize \
	  LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_segv=0 \
	  $(BIN)/python -P -m pytest -k "not preloaded_allocator" \
	  tests/unit/test_measure_native.py tests/unit/test_measure_brake.py \
	  tests/unit/test_measure_pool_jobs.py tests/unit/test_measure_small_objects.py \
	  tests/unit/test_measure_native_process.py tests/unit/test_measure_lines.py \
	  tests/unit/test_measure_native_looks.py tests/unit/test_measure_native_garbage.py \
	  $(ARGS)

valgrind: $(VENV)/.dev ## a round of the native tally's work under valgrind
	PYTHONMALLOC=malloc valgrind -q --error-exitcode=9 --num-callers=20 \
	  --undef-value-errors=no \
	  $(BIN)/python tests/unit/native_round.py

lint: $(VENV)/.dev ## ruff (lint and format) and mypy --strict on the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV_BENCH)/.bench ## all benchmarks (or those that ARGS names): an hour and more
	$(VENV_BENCH)/bin/python benchmarks $(ARGS)

clean: ## remove environments, builds and caches
	rm -rf $(VENV) $(VENV_OLDEST) $(VENV_BENCH) .venv-matrix build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis dask-scratch-space
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments -----------------------------------------------------------------
# A stamp stands for "installed as these files of that time say".
BUILT_FROM := pyproject.toml setup.py dask_memdash/measure/_tally.c \
  $(wildcard dask_memdash/measure/native/*.[ch] dask_memdash/measure/frames/*.[ch])

define make-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dask_memdash needs Python 3.11 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 …" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: its venv or ensurepip module is" \
	    "missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@test -x $(1)/bin/python || { echo "making $(1)"; $(PYTHON) -m venv $(1); }
	@$(1)/bin/python -c 'import pip, sys; sys.exit(int(pip.__version__.split(".")[0]) < 23)' \
	  || $(1)/bin/python $(PIP_INSTALL) --upgrade "pip>=23"
endef

$(VENV)/.demo: $(BUILT_FROM)
	$(call make-venv,$(VENV))
	@echo "installing dask_memdash with the demo into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(BUILT_FROM)
	$(call make-venv,$(VENV))
	@echo "installing dask_memdash with demo, test, lint and docs tools into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable ".[demo,test,lint,docs]"
	@touch $(VENV)/.demo $(VENV)/.docs $@

$(VENV)/.docs: $(BUILT_FROM)
	$(call make-venv,$(VENV))
	@echo "installing dask_memdash with what builds its documentation into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable ".[docs]"
	@touch $@

$(VENV)/.attack: $(VENV)/.dev
	@echo "installing what attacks and measures coverage into $(VENV)"
	@$(BIN)/python $(PIP_INSTALL) --editable ".[attack]"
	@touch $@

# All else is the main environment's: only Dask differs, and little is installed twice.
$(VENV_OLDEST)/.dev: $(VENV)/.dev Makefile
	$(call make-venv,$(VENV_OLDEST))
	@echo "installing distributed $(OLDEST) into $(VENV_OLDEST)"
	@$(VENV_OLDEST)/bin/python $(PIP_INSTALL) --no-deps \
	  "distributed==$(OLDEST)" "dask==$(OLDEST)"
	@$(BIN)/python .ci/share.py $(VENV_OLDEST)/bin/python
	@$(VENV_OLDEST)/bin/python -c "import dask_memdash, distributed, panel; \
	  assert distributed.__version__ == '$(OLDEST)'"
	@touch $@

# An environment of its own: with pyarrow, pandas stores strings in another way.
# What cannot be installed here is left out of the tables, which then say so.
$(VENV_BENCH)/.bench: $(BUILT_FROM)
	$(call make-venv,$(VENV_BENCH))
	@echo "installing dask_memdash and what it is compared with into $(VENV_BENCH)"
	@$(VENV_BENCH)/bin/python $(PIP_INSTALL) --editable ".[demo]"
	@for package in pandas pyarrow dask-memusage==1.1 memray playwright scipy \
	  scikit-learn xarray polars pillow h5py zarr isal; do \
	  $(VENV_BENCH)/bin/python $(PIP_INSTALL) $$package \
	    || echo "$$package could not be installed" >&2; done
	@touch $@

# --- the browser ------------------------------------------------------------------
# The browser tests take MEMDASH_CHROMIUM, or a Chromium or Chrome on the PATH.  Without
# one they are skipped, except in CI (the variable CI is set), where that is a failure.

browser:
	@if [ -n "$$MEMDASH_CHROMIUM" ]; then exit 0; fi; \
	for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  if command -v $$name >/dev/null 2>&1; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing Chromium for the browser tests"; \
	  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  then exit 0; fi; \
	fi; \
	echo "No Chromium or Chrome found for the browser tests, and it could not be" \
	  "installed from here (that takes apt-get and root). Install the package" \
	  "\"chromium\", or set MEMDASH_CHROMIUM to the program's path." >&2; \
	if [ -n "$$CI" ]; then exit 1; fi; \
	echo "The browser tests will be skipped." >&2

# --- the Redis server ---------------------------------------------------------------
# The tests of RedisMemory start a server of their own on loopback.  Without the program
# they are skipped, except in CI, where that is a failure.

redis:
	@if command -v redis-server >/dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing redis-server for the tests of stores"; \
	  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
	    apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	  then exit 0; fi; \
	fi; \
	echo "No redis-server found for the tests of stores, and it could not be installed" \
	  "from here (that takes apt-get and root). Install the package" \
	  "\"redis-server\"." >&2; \
	if [ -n "$$CI" ]; then exit 1; fi; \
	echo "Those tests will be skipped." >&2
