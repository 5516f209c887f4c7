# `make quickstart` and `make test` do everything, set-up included. The rest stands beside them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export NO_MKDOCS_2_WARNING := 1

.PHONY: quickstart test lint docs soak judges bench versions clean

quickstart: $(VENV)/runtime
	$(BIN)/gpt2dsl run specs/quickstart.toml
	$(BIN)/gpt2dsl generate runs/quickstart --prompt "Mr. Darcy" --max-new-tokens 40
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
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: pyproject.toml | $(BIN)/python
	@echo "installing MindSpore and what else it needs into $(VENV): a download of about 1 GB, and a minute or two to unpack it"
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/runtime
