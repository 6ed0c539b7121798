# Every target makes its own environment; nothing but Python >= 3.11, pip and make is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs
PIP := $(BIN)/pip --disable-pip-version-check
SOURCES := surrogate tests examples benchmarks

.PHONY: demo test lint types unit coverage test-slow test-gpu bench bench-gpu test-cluster docs clean

demo: $(STAMP)  ## simulate, train with slimTrain and Adam, evaluate, report
	$(BIN)/surrogate run quickstart --output runs/quickstart --overwrite

test: $(STAMP)  ## what CI runs; types are checked while tests wait for processes and files
	$(MAKE) --no-print-directory --jobs=2 lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal

coverage: $(STAMP)  ## lines that the tests of `make test` run; fails below the floor in pyproject.toml
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal --cov --cov-report=term:skip-covered

test-slow: $(STAMP)  ## the tests left out of `make test`, and those of properties with more examples
	$(BIN)/pytest -q -m "(slow or hypothesis) and not gpu and not cluster"

test-gpu: $(STAMP)  ## the tests that need a CUDA device
	$(BIN)/pytest -q -m gpu

bench: $(STAMP)  ## a slimTrain step over an Adam step, about three minutes; a line more in benchmarks/history.jsonl
	mkdir -p runs/bench
	$(BIN)/python benchmarks/slimtrain.py --output runs/bench/slimtrain.json
	$(BIN)/python benchmarks/history.py runs/bench/slimtrain.json

bench-gpu: $(STAMP)  ## the tests and the benchmarks on a CUDA device, about ten minutes; figures in runs/gpu
	$(BIN)/pytest -q -m gpu
	mkdir -p runs/gpu
	$(BIN)/python benchmarks/slimtrain.py --device cuda --output runs/gpu/slimtrain.json
	$(BIN)/python benchmarks/gpu.py --device cuda --output runs/gpu/gpu.json

test-cluster: $(STAMP)  ## on a Slurm of its own; root, Debian's slurm-wlm and munge
	$(BIN)/pytest -q -m cluster tests/cluster

docs: $(DOCS_STAMP)  ## the documentation as HTML in docs/_build; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

$(DOCS_STAMP): $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $(DOCS_STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; call make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) runs build dist docs/_build docs/generated docs/gallery docs/_gallery .pytest_cache .mypy_cache .ruff_cache .hypothesis
