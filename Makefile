# Each target sets up its own environment: a machine with Python 3.11 and make is enough.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo reproduce test test-slow lint wheel clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

demo: $(VENV)/installed
	$(RUN) examples/adult_demo.py --output demo-output

# Every table and figure of the paper; goes on where it was interrupted. The faces need SKFAIRFT_DATA.
reproduce: $(VENV)/installed
	$(RUN) benchmarks/paper

# One process per core, each with one thread.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/installed
	$(RUN) -m pytest -q -m slow

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

wheel: $(VENV)/installed
	$(RUN) -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info .pytest_cache .ruff_cache .mypy_cache
