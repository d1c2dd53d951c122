# Everything a fresh machine needs to try or to test cvxinv. It must have Python 3.11 or newer (with venv), git and make.
#
#   make demo     set up .venv, then invert a shipped generator
#   make test     set up .venv, then run every check:  make test FAST=1  leaves out the slow tests
#   make docs     set up .venv, then build the site, docs/_build/html/index.html
#
# The same without make (on Windows write .venv\Scripts for .venv/bin):
#
#   python3 -m venv .venv
#   .venv/bin/python -m pip install -c constraints.txt torch==2.13.0
#   .venv/bin/python -m pip install -c constraints.txt -e ".[plot]"      # ".[dev]" for the tests
#   .venv/bin/cvxinv demo
#
# On Linux without a GPU a small build of torch will do, many times smaller than the default one:
#
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
FAST ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
N ?=
EDIT ?=
LESSON_ARGS ?=
DOCS_ARGS ?=
FIGURES_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep -E '^torch==' constraints.txt)

# That index has torch but not the pinned versions of what torch needs: the next step takes those from the usual index.
TORCH_FROM := $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX),-c constraints.txt)
SELECT := $(if $(filter-out 0,$(FAST)),-m "not slow")

LESSON := $(if $(N),$(wildcard docs/lessons/$(shell printf '%02d' "$(N)" 2>/dev/null)_*.py))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench pictures docs figures lesson clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(VENV)/.installed-plot ## set up, then run the demonstration
	@echo "== cvxinv demo"
	@$(BIN)/cvxinv demo

test: lint ## set up, then ruff, mypy and all tests (FAST=1 leaves out the slow ones)
	@echo "== pytest: $(if $(SELECT),all tests but the slow ones,all tests)"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --dist worksteal $(SELECT) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## set up, then ruff and mypy
	@echo "== ruff check: style"
	@$(BIN)/ruff check .
	@echo "== ruff format --check: layout"
	@$(BIN)/ruff format --check .
	@echo "== mypy: types"
	@$(BIN)/mypy

bench: $(VENV)/.installed-bench ## set up, then time every solver beside its peers (half an hour; BENCH_ARGS=--quick: a minute)
	@echo "== benchmarks/layers.py: about half an hour on an idle core; make bench BENCH_ARGS=--quick takes a minute"
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/layers.py --out benchmarks/results $(BENCH_ARGS)

pictures: $(VENV)/.installed-plot ## set up, then draw the pictures in docs again
	@echo "== docs/pictures.py"
	@$(BIN)/python docs/pictures.py

docs: $(VENV)/.installed-docs ## set up, then build the site, docs/_build/html/index.html (DOCS_ARGS=--quick: examples not run)
	@echo "== docs/site/build.py: pages, reference, examples; warnings are errors"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python docs/site/build.py $(DOCS_ARGS)

figures: $(VENV)/.installed-bench ## set up, then run the papers' experiments again (hours, goes on where it stopped; FIGURES_ARGS=--quick: minutes)
	@echo "== problems/figures.py: hours on an idle core; make figures FIGURES_ARGS=--quick takes minutes"
	@OMP_NUM_THREADS=1 $(BIN)/python problems/figures.py $(FIGURES_ARGS)

lesson: $(VENV)/.installed-lessons ## set up, then open lesson N=1 to 12 in the browser (EDIT=1: to change it)
	@test -f "$(LESSON)" || { echo "expected a lesson N from 1 to 12, got '$(N)'; say make lesson N=4"; exit 1; }
	@echo "== $(LESSON)"
	@MARIMO_SKIP_UPDATE_CHECK=1 $(BIN)/marimo $(if $(filter-out 0,$(EDIT)),edit,run) $(LESSON_ARGS) "$(LESSON)"

clean: ## remove .venv, caches and build folders
	@echo "== removing $(VENV), caches and build folders"
	@rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that a step that was broken off starts again.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "expected Python 3.11 or newer as '$(PYTHON)', found no such command;" \
	       "install it, or name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1) as '$(PYTHON)';" \
	       "name a newer one: make PYTHON=python3.12"; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-torch: $(VENV)/.created constraints.txt
	@echo "== installing $(TORCH), the largest download$(if $(TORCH_INDEX), (from $(TORCH_INDEX)))"
	@$(PIP) install --progress-bar off $(TORCH_FROM) $(TORCH)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed-torch setup.cfg setup.py constraints.txt
	@echo "== installing cvxinv[$*] and what it needs"
	@$(PIP) install --quiet --use-pep517 -c constraints.txt -e ".[$*]"
	@touch $@
