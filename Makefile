# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# TRACKER=..., ARGS="--steps 100" and JOBS=2 on the make line; docs/kconfig.md says what each does.
TRACKING = $(if $(TRACKER),--tracker '$(TRACKER)')
JOBS    ?= 1
# How many times the usual points `make attack` tries.
EFFORT  ?= 1

# Python 3.12 and newer count the lines that run at next to no cost; before, tests/conftest.py leaves out the slow tests.
COVERAGE_CORE = $(shell $(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')

# The dashboard's page is built as Lossbook is installed: changed sources install it anew where the page may be looked at.
UI := $(shell find lossbook/web/ui \( -name node_modules -o -name '.*' \) -prune -o -type f -print)

.PHONY: demo test test-fast attack lint bench docs ui format clean help train matrix continue trackio menuconfig defconfig savedefconfig \
        list-defconfigs oldconfig allyesconfig allnoconfig clean-config kconfig-help

help:                      ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

demo: $(VENV)/train.stamp  ## train a small GPT-2 on real text, tracked, in about two minutes
	$(BIN)/python scripts/demo.py

test: $(VENV)/test.stamp   ## run every test, and print which lines of the package they ran
	COVERAGE_CORE=$(COVERAGE_CORE) $(BIN)/python -m pytest -n 2 --dist loadfile --durations 25 --cov=lossbook \
	|| { [ $$? -eq 1 ] && $(ALONE); }

# Real browsers, servers and killed processes share two cores: what failed among them is run once more, alone. A test that
# fails only in company is named with its first failure above, for whoever mends it; one that fails alone fails the build.
ALONE = echo 'Once more, alone, what failed:' && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-fast: $(VENV)/test.stamp ## the tests that start no training, browser or other tracker: the inner loop
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

attack: $(VENV)/test.stamp ## let faults loose on runs, a quarter of an hour (EFFORT=4 for more), and write docs/reliability.md
	$(BIN)/python -m attack --effort $(EFFORT) --markdown docs/reliability.md

lint: $(VENV)/lint.stamp   ## ruff, mypy --strict, the direction of imports; the dashboard's page: biome and tsc
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/build_ui.py lint

ui: $(VENV)/lint.stamp     ## build the dashboard's page, if its sources have changed
	$(BIN)/python scripts/build_ui.py

format: $(VENV)/lint.stamp ## let ruff and biome lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/build_ui.py format

bench: $(VENV)/bench.stamp ## measure beside the peers, in the same run
	$(BIN)/python -m benchmarks

docs: $(VENV)/bench.stamp  ## measure, and write the table in docs/benchmarks.md
	$(BIN)/python -m benchmarks --markdown docs/benchmarks.md

clean:                     ## remove what was built here (never a run)
	rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf lossbook/web/static lossbook/web/ui/node_modules lossbook/web/ui/.build

menuconfig: $(VENV)/kconfig.stamp      ## choose what to train in a menu; the result is .config
	$(BIN)/python scripts/kconfig.py menuconfig $(TRACKING)

defconfig: $(VENV)/kconfig.stamp       ## begin with a configuration that is there: DEFCONFIG=NAME
	@$(BIN)/python scripts/kconfig.py defconfig $(if $(DEFCONFIG),'$(DEFCONFIG)') $(TRACKING)

defconfig-%: $(VENV)/kconfig.stamp
	@$(BIN)/python scripts/kconfig.py defconfig '$*' $(TRACKING)

list-defconfigs: $(VENV)/kconfig.stamp ## say which there are
	@$(BIN)/python scripts/kconfig.py list-defconfigs

savedefconfig: $(VENV)/kconfig.stamp   ## write what differs from the defaults to ./defconfig (OUTPUT=FILE)
	@$(BIN)/python scripts/kconfig.py savedefconfig $(if $(OUTPUT),--output '$(OUTPUT)')

oldconfig allyesconfig allnoconfig: $(VENV)/kconfig.stamp
	@$(BIN)/python scripts/kconfig.py $@ $(TRACKING)

clean-config: $(VENV)/kconfig.stamp    ## remove .config and .config.old
	@$(BIN)/python scripts/kconfig.py clean-config

kconfig-help: $(VENV)/kconfig.stamp    ## say what else there is for .config, and every symbol
	@$(BIN)/python scripts/kconfig.py help

train: $(VENV)/kconfig-train.stamp     ## train what .config says; ARGS="--steps 100" and TRACKER=... win over it
	@$(BIN)/python scripts/train.py $(TRACKING) $(ARGS)

matrix: $(VENV)/kconfig-train.stamp    ## train every combination that .config has checked, JOBS=n at a time
	@$(BIN)/python scripts/matrix.py --jobs $(JOBS) $(TRACKING) $(ARGS)

continue: $(VENV)/kconfig-train.stamp  ## go on where an interruption stopped the matrix or the run
	@$(BIN)/python scripts/matrix.py --continue --jobs $(JOBS) $(TRACKING) $(ARGS)

trackio: $(VENV)/kconfig.stamp         ## Trackio's pages, on the port that .config says
	@$(BIN)/python scripts/kconfig.py trackio

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Lossbook needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/train.stamp: pyproject.toml $(UI) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	touch $@

$(VENV)/kconfig.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[kconfig]'
	touch $@

$(VENV)/kconfig-train.stamp: pyproject.toml $(UI) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,kconfig]'
	touch $@

$(VENV)/test.stamp: pyproject.toml $(UI) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,test]'
	touch $@

$(VENV)/lint.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	touch $@

$(VENV)/bench.stamp: pyproject.toml $(UI) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@
