# On a machine with Python, pip and make: `make demo` and `make test` set up everything they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads inside torch and processes of pytest would fight for the same cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test docs lint bench fuzz kills format setup clean

demo: $(STAMP)  ## Solve fresh addition problems with the shipped energy
	$(BIN)/energysolve solve addition

test: $(STAMP)  ## Run the tests
	$(PYTEST) -n auto --maxprocesses 8 --ignore tests/benchmarks

docs: $(STAMP)  ## Build the documentation into the folder site; executes the examples that have changed
	NO_MKDOCS_2_WARNING=1 PATH=$(abspath $(BIN)):$$PATH $(BIN)/mkdocs build --strict

lint: $(STAMP)  ## Style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(STAMP)  ## Speed and memory, as ratios within one run; writes docs/results, takes about an hour
	$(BIN)/python -m pytest -o addopts= tests/benchmarks
	$(BIN)/python docs/render_results.py

FUZZ_SECONDS ?= 600
fuzz: $(STAMP)  ## Damaged files for each of the readers, ten minutes each; what is found goes to tests/fuzz/corpus
	$(BIN)/python -W ignore tests/fuzz.py --seconds $(FUZZ_SECONDS) $(READERS)

kills: $(STAMP)  ## `solve --input` killed at 20 moments and resumed, in one process and on Ray
	$(BIN)/python -W ignore tests/kills.py --engine plain --kills 20
	$(BIN)/python -W ignore tests/kills.py --engine ray --kills 20

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .benchmarks .cache site out
