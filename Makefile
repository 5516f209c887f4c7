# `make quickstart` and `make test` do everything, set-up included. The rest stands beside them.
VERSIONS := 3.10 3.11 3.12# that MindSpore has wheels for
VERSION_OF = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.11 python3.10,$(if $(filter $(VERSIONS),$(call VERSION_OF,$(name))),$(name))) python3)
VENV := .venv
BIN := $(VENV)/bin
export NO_MKDOCS_2_WARNING := 1

.PHONY: quickstart test lint docs soak judges bench versions clean

quickstart: $(VENV)/runtime
	$(BIN)/gpt2dsl run specs/quickstart.toml
	$(BIN)/gpt2dsl generate runs/quickstart --prompt "Mr. Darcy" --max-new-tokens 40
	@echo "The run and its report.html are in $$(ls -td runs/quickstart-* | head -1); look at all runs with $(BIN)/gpt2dsl runs"
	@echo "That was $(BIN)/gpt2dsl. To type gpt2dsl alone in this shell: . $(BIN)/activate"

test: lint
	$(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test
	$(BIN)/mkdocs build --strict

soak: $(VENV)/test
	$(BIN)/pytest -m soak

judges: $(VENV)/test
	tests/mindformers/environment.sh
	tests/optimum/environment.sh
	tests/page/environment.sh
	tests/clients/environment.sh
	$(BIN)/pytest -m judges tests/mindformers tests/optimum tests/page tests/clients

versions:
	tests/versions/all.sh

bench: $(VENV)/test
	$(BIN)/python bench/all.py

clean:
	rm -rf $(VENV) .versions .judges .optimum .browser .clients .peers runs site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(call NEEDS,$(PYTHON),name one: make PYTHON=/path/to/python3.12)
	$(PYTHON) -m venv $(VENV)

NEEDS = case " $(VERSIONS) " in *" $(call VERSION_OF,$(1)) "*) ;; *) \
	echo "gpt2dsl needs Python 3.10, 3.11 or 3.12; $(1) is $(or $(call VERSION_OF,$(1)),not there): $(2)" >&2; exit 1;; esac

$(VENV)/runtime: pyproject.toml | $(BIN)/python
	@$(call NEEDS,$(BIN)/python,run make clean first)
	@echo "installing MindSpore and what else it needs into $(VENV): a download of about 1 GB, and a minute or two to unpack it"
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	@$(call NEEDS,$(BIN)/python,run make clean first)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/runtime
