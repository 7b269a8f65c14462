# Everything a person types here. `make help` lists it.
SHELL := /bin/bash
VENV  := .venv
PY    := $(VENV)/bin/python
BIN   := $(VENV)/bin
# The interpreter that the virtual environment is made from.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYDEVD_DISABLE_FILE_VALIDATION := 1
NB   ?=
DATA ?=
TARGET ?=
BY   ?=
ONLY ?=

.PHONY: help setup install demo lab test coverage lint format bench campaign pictures extension chapter text export lock readme clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# By content, not by time: every export of notebooks touches pyproject.toml.
setup: ## the virtual environment with the pinned packages
	@sha256sum pyproject.toml requirements.lock | cmp --silent - $(VENV)/.installed || $(MAKE) --silent install

install:
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(PY) --requirements requirements.lock
	@$(BIN)/uv pip install --quiet --python $(PY) --no-deps --editable .
	@sha256sum pyproject.toml requirements.lock > $(VENV)/.installed

extension: setup ## build the JupyterLab extension anew; reload the page to see it
	@cd extension && { [ -d node_modules ] || jlpm install --immutable >/dev/null; } && jlpm build
	@rm -rf $(VENV)/share/jupyter/labextensions/aiplat && cp -r aiplat/labextension $(VENV)/share/jupyter/labextensions/aiplat # Voila serves no links

demo: ## the main job on a sample, or on your file: make demo DATA=file.csv TARGET=column BY=column,column
	@start=$$(date +%s); $(MAKE) --silent setup && ready=$$(date +%s) \
	  && aiplat demo $(if $(DATA),"$(DATA)" --target "$(TARGET)" --by "$(BY)") \
	  && end=$$(date +%s) && echo && echo "set-up $$((ready - start)) s, demo $$((end - ready)) s, together $$((end - start)) s"

lab: setup ## JupyterLab on the tutorials, with Ray and the MLflow UI running
	@aiplat init && aiplat up --ui && jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --notebook-dir=. nbs/tutorials/quickstart.ipynb

test: setup ## every test: lint, types, notebooks, processes, browsers
	@bash tests/all.sh

coverage: setup ## the same, and which lines no test ran
	@COVERAGE=1 bash tests/all.sh

lint: setup ## style, types, notebooks clean and exported
	@bash tests/lint.sh

format: setup ## format notebooks and code, and export
	@ruff format --quiet nbs tests benchmarks && ruff check --quiet --fix nbs tests benchmarks; nbdev-clean && nbdev-export

bench: setup ## every figure, a JSON line each; ONLY=name for one
	@$(PY) -m benchmarks $(ONLY)

campaign: setup ## the long fault campaigns
	@AIPLAT_CAMPAIGN=1 $(PY) -m pytest -q tests/test_crash.py tests/test_crash_train.py tests/test_kernels.py tests/test_engine.py tests/test_schedules.py tests/test_exports.py tests/test_elsewhere.py \
	  tests/test_batch.py tests/test_stream.py tests/test_traffic.py tests/test_million.py tests/test_monitor.py tests/test_serving_protocols.py

chapter: setup ## NB=core/errors: fold .text/NB.py into nbs/NB.ipynb, export it, run it, clean it
	@$(PY) -m tests.chapter $(NB)

text: setup ## NB=core/errors: unfold nbs/NB.ipynb into .text/NB.py (percent format), to edit as text
	@mkdir -p .text/$(dir $(NB)) && jupytext --quiet --to py:percent --output .text/$(NB).py nbs/$(NB).ipynb

export: setup ## every notebook to its module
	@nbdev-export

readme: setup ## README.md from nbs/index.ipynb
	@jupyter nbconvert --log-level ERROR --to markdown --output-dir . --output README nbs/index.ipynb

pictures: setup ## the README's and the tutorials' pictures anew, as the browser tests see them
	@$(PY) -m tests.shots

lock: setup ## pin the dependencies of pyproject.toml anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --all-extras \
	  --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## remove what was made here, but not your .aiplat
	@rm -rf $(VENV) aiplat/labextension extension/node_modules extension/lib extension/.yarn .demo .text .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist
