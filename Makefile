# make demo   train on the embedded digits, print accuracy and uncertainty
# make test   the default tests (under 5 minutes on 2 cores)
# make check  format, lint, types, import layering
# make docs   the documentation as a site, into site/
# Each installs what it needs into .venv first; only Python, pip and make must be there.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check docs format clean

# installed anew when C sources change, or Python files come and go (an editable install holds a list of them)
SOURCES := CMakeLists.txt $(wildcard csrc/*) $(shell find src -type d -not -name __pycache__)

.venv/installed: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/bayesbinn train digits --threads 1 --output runs/demo-$$(date +%Y%m%d-%H%M%S)

test: .venv/installed
	$(BIN)/pytest --numprocesses auto -m "not slow"

test-all: .venv/installed
	$(BIN)/pytest --numprocesses auto

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# strict: a page outside the navigation, a dead link or anchor is an error
docs: .venv/docs
	$(BIN)/python tools/commands_page.py
	$(BIN)/python tools/notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
