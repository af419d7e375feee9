# make demo   train on the embedded digits, print accuracy and uncertainty
# make test   the default tests (under 5 minutes on 2 cores)
# make check  format, lint, types, import layering
# make docs   the documentation as a site, into site/
# make dist   sdist and wheel into dist/, checked and listed; `make dist-pure`: the wheel without the C library
# Each installs what it needs into .venv first; only Python, pip and make must be there.
#
# TORCH=cpu      the build of torch: cpu, cu126, ... of pytorch.org's index; empty: pip's own. Linux has cpu, others pip's own
# TORCH_VERSION  2.13.0 (as in constraints.txt) unless given; empty: the newest
# CONSTRAINTS    constraints.txt unless given; empty: the newest of everything. Needed with another TORCH_VERSION

PYTHON ?= $(if $(filter Windows_NT,$(OS)),python,python3)
BIN := .venv/bin
CONSTRAINTS ?= constraints.txt
TORCH_VERSION ?= $(if $(CONSTRAINTS),$(shell sed -n 's/^torch==//p' $(CONSTRAINTS)))
TORCH_INDEX ?= https://download.pytorch.org/whl
ifeq ($(OS),Windows_NT)
  BIN := .venv/Scripts
else ifeq ($(shell uname -s),Linux)
  TORCH ?= cpu
endif
DIST_BIN := $(subst .venv/,.venv-dist/,$(BIN))
torch := torch$(if $(TORCH_VERSION),==$(TORCH_VERSION))
constrained := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test test-all check docs format dist dist-pure clean

# installed anew when C sources change, or Python files come and go (an editable install holds a list of them)
SOURCES := CMakeLists.txt $(wildcard csrc/*) $(shell find src -type d -not -name __pycache__)

# torch first and alone, so that pip has nothing left to choose; the rest is never asked of that index
.venv/installed: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv .venv
	@if [ -n "$(TORCH)" ]; then \
	  if $(BIN)/pip install --quiet --retries 1 --timeout 30 --no-deps --index-url $(TORCH_INDEX)/$(TORCH) $(torch); \
	  then echo "torch: $$($(BIN)/pip list --format freeze | grep '^torch=='), the build '$(TORCH)'; 'make TORCH=' takes pip's own"; \
	  else echo "torch: $(TORCH_INDEX)/$(TORCH) does not answer: pip's own $(torch) instead, on Linux x86-64 about 3 GB"; fi; \
	fi
	$(BIN)/pip install --quiet $(constrained) $(torch) --editable '.[dev]'
	@touch $@

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
	$(BIN)/pip install --quiet $(constrained) $(torch) --editable '.[docs]'
	touch $@

# strict: a page outside the navigation, a dead link or anchor is an error
docs: .venv/docs
	$(BIN)/python tools/commands_page.py
	$(BIN)/python tools/notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# an environment of its own, which needs no torch
.venv-dist/installed: Makefile
	$(PYTHON) -m venv .venv-dist
	$(DIST_BIN)/pip install --quiet 'build>=1.2' 'twine>=6.1'
	@touch $@

dist: .venv-dist/installed
	rm -rf dist
	$(DIST_BIN)/python -m build
	$(LISTED)

dist-pure: .venv-dist/installed
	rm -rf dist
	$(DIST_BIN)/python -m build --sdist
	$(DIST_BIN)/python -m build --wheel --config-setting wheel.cmake=false
	$(LISTED)

define LISTED
$(DIST_BIN)/twine check --strict dist/*
$(DIST_BIN)/python -m tarfile --list dist/*.tar.gz
$(DIST_BIN)/python -m zipfile --list dist/*.whl
ls -l dist
endef

clean:
	rm -rf .venv .venv-dist build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
