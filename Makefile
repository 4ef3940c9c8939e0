# make demo   fit real models offline and write a report page
# make check  check style and types and run the fast tests, in about a minute
# make docs   build the documentation
# make bench  measure the speed of this and other libraries; an hour on an idle machine
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: check demo test lint format typecheck docs bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $(READY)

check: lint typecheck
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m 'not slow' tests src/ancestral/nn src/ancestral/probability

demo: $(READY)
	$(BIN)/ancestral demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) demo site
