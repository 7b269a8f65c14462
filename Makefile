# Everything a person types here: demo, lab, test, bench. `make help` lists the rest.
SHELL := /bin/bash
VENV  := .venv
PY    := $(VENV)/bin/python
BIN   := $(VENV)/bin
# The interpreter that the virtual environment is made from.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
NB ?=

.PHONY: help setup demo lab test lint bench campaign chapter text export lock readme clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## the virtual environment with the pinned packages

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(PY) --requirements requirements.lock
	@$(BIN)/uv pip install --quiet --python $(PY) --no-deps --editable .
	@touch $@

chapter: setup ## NB=core/errors: fold .text/NB.py into nbs/NB.ipynb, run it, clean it, export it
	@$(PY) -m tests.chapter $(NB)

text: setup ## NB=core/errors: unfold nbs/NB.ipynb into .text/NB.py (percent format) to edit as text
	@mkdir -p .text/$(dir $(NB)) && $(BIN)/jupytext --quiet --to py:percent --output .text/$(NB).py nbs/$(NB).ipynb

export: setup ## every notebook to its module
	@$(BIN)/nbdev-export

lock: ## pin the dependencies of pyproject.toml anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --all-extras \
	  --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock
