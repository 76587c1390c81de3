# make demo: the main job · make test: all that CI runs · make quick: fast tests · make fix · make lint
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help demo test quick lint fix lock clean tools

help: ## Show what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) tools/setup_venv.py --python $(PYTHON) $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	@$(PYTHON) tools/setup_venv.py --python $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## Run the main job end to end (ARGS="--once --json" for scripts)
	@$(BIN)/kephs demo $(ARGS)

tools: ## Install or name the Debian programs that the tests drive
	@$(PYTHON) tools/provision.py

test: $(VENV)/.dev tools lint ## Everything CI runs
	@$(BIN)/python tools/run_tests.py

quick: $(VENV)/.dev ## The fast tests only
	@$(BIN)/python -m pytest -q -n auto -m "not slow and not tools" tests/unit tests/contract

lint: $(VENV)/.dev ## Style, types, layers, spec citations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_specs.py

fix: $(VENV)/.dev ## Repair format and what ruff can repair
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/python tools/gen_docs.py

lock: ## Recompile both lock files (hashes, no index addresses)
	@$(PYTHON) tools/setup_venv.py --lock

clean: ## Remove what make made
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .coverage*
