# Everything from nothing: `make demo` and `make test` set up their own environment in .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test slow coverage check docs bench figures clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP) ## Protect sample pictures, attack the protection, print the verdict (under 4 minutes)
	$(BIN)/bitterant demo

test: $(STAMP) ## Run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(STAMP) ## Run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

coverage: $(STAMP) ## Run the tests; say which lines none reaches, in numbers and in htmlcov/
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered --cov-report=html

check: $(STAMP) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(STAMP) ## Build the documentation into build/site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP) ## Measure the speed of the noise sweep (BITTERANT_CIFAR names the file of CIFAR-10, see docs/measurements.md)
	$(BIN)/python benchmarks/emn_speed.py

figures: $(STAMP) ## Draw the documentation's picture anew from bitterant-demo
	$(BIN)/python samples/make_figures.py

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info bitterant-demo bitterant-quickstart
	rm -rf .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'bitterant needs Python 3.11 or newer; name one with: make PYTHON=python3.12 demo')"
	$(PYTHON) -m venv $(VENV)
	@# uv takes a third of pip's time; where it cannot be had, pip does the same.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv \
	&& $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e ".[dev]" \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# The type checker finds the package, whose root is this folder, through this link.
	@mkdir -p build/types && ln -sfn ../.. build/types/bitterant
	@touch $@
