# What a contributor needs, a command each. `make` lists them.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST)

$(BIN)/pytest: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -e '.[test,lint,docs]'
	@touch $@

setup: $(BIN)/pytest  ## make a virtual environment with all that tests, lint and docs need

test: setup  ## run all tests
	$(BIN)/pytest -q -n 3 --dist loadfile

fast: setup  ## run the tests that take less than half a minute in all
	$(BIN)/pytest -q -n 3 --dist loadfile -m "not slow"

lint: setup  ## format, lint, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## build the documentation into site/
	$(BIN)/sphinx-build -W --keep-going -q docs site

mutants: setup  ## change the code a little, many times, and list the changes that no test notices: takes an hour
	$(BIN)/pip install -q cosmic-ray
	$(BIN)/python -m tests.mutants --sample 50

.PHONY: help setup test fast lint docs mutants
