# Two commands set everything up: `make demo` and `make test`. Each makes .venv when it is not there or out of date.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

# LightGBM asks for the system's OpenMP library. Where there is none, the installation links scikit-learn's copy here.
export LD_LIBRARY_PATH := $(CURDIR)/$(VENV)/openmp:$(LD_LIBRARY_PATH)

.PHONY: demo test check tests docs test-extras soak bench clean

demo: $(STAMP)  ## install, then walk the main job on the data that ships here
	$(BIN)/python examples/income/demo.py

test: check tests  ## everything that CI runs

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

docs: $(STAMP)  ## write the pages that are generated from the code
	$(BIN)/python -c "from pathlib import Path; from modelyard.spec.document import write_docs; write_docs(Path('docs/spec.md'))"

test-extras: $(STAMP)  ## extras and independent clients, each in an environment of its own
	$(BIN)/python -m pytest -m extras -p no:cacheprovider --timeout 1800

soak: $(STAMP)  ## the long tests
	$(BIN)/python -m pytest -m soak --timeout 3600

bench: $(STAMP)  ## measure, beside the reference
	$(BIN)/python bench/data.py
	$(BIN)/python bench/main_job.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	$(BIN)/python -c "import ctypes; ctypes.CDLL('libgomp.so.1')" 2>/dev/null || \
		(mkdir -p $(VENV)/openmp && ln -sf "$$(ls $(CURDIR)/$(VENV)/lib/python3*/site-packages/scikit_learn.libs/libgomp*.so* | head -1)" $(VENV)/openmp/libgomp.so.1)
	touch $@
