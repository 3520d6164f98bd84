# `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
# of 25,000 files some 6,000 are ever imported: Python compiles each when it first is
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

# kernels for GPUs run in Triton's interpreter, which is asked for before anything imports Triton
# three workers on two cores: many tests wait for servers, browsers and processes of their own
PYTEST := OMP_NUM_THREADS=1 TRITON_INTERPRET=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 3 --dist worksteal

.PHONY: run test test-slow sweep lint clean

run: .venv/run
	@$(BIN)/metaloom run

test: .venv/test
	@$(PYTEST) -m 'not slow and not sweep'

test-slow: .venv/test
	@$(PYTEST) -m 'slow and not sweep'

# the longest walks, by hand: every moment to be killed at, every combination
sweep: .venv/test
	@$(PYTEST) -m sweep

lint: .venv/test
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports && $(BIN)/pyright

.PHONY: docs
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
