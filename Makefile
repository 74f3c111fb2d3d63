# Each target sets up its own environment: a machine with Python 3.11 and make is enough.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo reproduce test test-slow kernels versions lint docs wheel clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

# The site's tools, and the backbones of its gallery.
$(VENV)/installed-docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[test,docs]"
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

# All tests again and again, with each kind of kernels that the processor has.
kernels: $(VENV)/installed
	$(RUN) tools/kernels.py --numprocesses auto --maxprocesses 4 --dist loadfile

# All tests in two environments of their own: at the oldest versions, and at the newest.
versions:
	$(PYTHON) tools/versions.py oldest
	$(PYTHON) tools/versions.py newest

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The site in docs/_build/html. Warnings are errors, and so are links that lead nowhere. An example
# runs again only if it changed; what was generated from things now gone is generated no more.
docs: $(VENV)/installed-docs
	rm -rf docs/api/generated docs/_build/html
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(RUN) -m sphinx --quiet --nitpicky --fail-on-warning --keep-going \
		-b html -d docs/_build/doctrees docs docs/_build/html
	$(RUN) tools/check_links.py docs/_build/html

wheel: $(VENV)/installed
	$(RUN) -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist demo-output docs/_build docs/auto_examples docs/api/generated \
		docs/api/backreferences *.egg-info .pytest_cache .ruff_cache .mypy_cache
