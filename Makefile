# Two commands do everything: `make demo` and `make test`. Both make the environment if it is absent.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow lint format bench docs clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a small CNN on the embedded digits with the callback, and say where to look"
	@echo "make test    the whole test suite"
	@echo "make slow    the checks that take minutes"
	@echo "make lint    ruff, mypy --strict, and which package may import which"
	@echo "make bench   the benchmarks, each as a ratio within one run"
	@echo "make docs    the documentation as a site, in site/"

# The stamp is younger than pyproject.toml exactly when the environment matches it.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "filterwatch needs Python 3.10 or newer, found " + sys.version.split()[0] + ": run make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/filterwatch demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto

slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks

# Nothing is fetched while building, and any warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Look at the pages:  site/index.html"

clean:
	rm -rf $(VENV) logs site .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
