# Everything a developer needs. Wants make and a Python from 3.11 on, and gets the rest.

# The first Python that is new enough; PYTHON=… names another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
ifeq ($(strip $(PYTHON)),)
$(error No Python from 3.11 on was found. Install one, or name it: make PYTHON=/path/to/python3)
endif

VENV_PYTHON := .venv/bin/python

# More arguments for pytest: make test ARGS="-k upsert --backend postgresql"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-matrix lint format docs benchmarks build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Run the atlas of the world; honours HOST, PORT and DATABASE_URL
	@$(PYTHON) tools/venvs.py demo
	@$(VENV_PYTHON) examples/atlas/run.py

test: ## Run the tests on every database found here; ARGS="…" goes to pytest
	@$(PYTHON) tools/suite.py $(ARGS)

coverage: ## Run the tests, print the branch coverage of src/, and fail below 95 %
	@$(PYTHON) tools/suite.py --coverage $(ARGS)

test-matrix: ## Run the tests on every Python and both SQLAlchemy lines
	@$(PYTHON) tools/venvs.py tests
	@$(VENV_PYTHON) tools/matrix.py $(ARGS)

lint: ## Check style, types and layers
	@$(PYTHON) tools/lint.py

format: ## Rewrite the code in the project's style
	@$(PYTHON) tools/venvs.py lint
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

docs: ## Build the documentation into docs/_build/html; a warning is an error
	@$(PYTHON) tools/venvs.py --into .venvs/docs docs
	@.venvs/docs/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "==> docs/_build/html/index.html"

benchmarks: ## Run every benchmark
	@$(PYTHON) tools/venvs.py --into .venvs/benchmarks benchmarks
	@set -e; for script in benchmarks/[a-z]*.py; do \
		echo "==> $$script"; .venvs/benchmarks/bin/python $$script; done

build: ## Build the wheel and the source archive into dist/
	@$(PYTHON) tools/venvs.py tests
	@$(VENV_PYTHON) -m build

clean: ## Remove everything the other targets made, but not the demo's database
	rm -rf .venv .venvs dist build docs/_build .coverage .coverage-data
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
