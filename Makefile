# `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint docs clean

run: .venv/run
	@$(BIN)/metaloom run

test: .venv/test
	@$(BIN)/pytest

lint: .venv/test
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports && $(BIN)/pyright

docs: .venv/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

.venv/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaloom needs Python 3.11 or newer")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "installing the pinned packages into .venv (two minutes the first time)"
	@$(INSTALL) --editable .
	@touch $@

.venv/test: .venv/run
	@$(INSTALL) --editable '.[test]'
	@touch $@

.venv/docs: .venv/run
	@$(INSTALL) --editable '.[docs]'
	@touch $@

clean:
	rm -rf .venv .metaloom artifacts report build
