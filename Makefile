PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install run listen test lint format bench requirements clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(STAMP) ## build .venv with everything in it

$(STAMP): pyproject.toml tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it: make install PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv (once, about a minute)" >&2
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install ## the relay with an embedded store and simulated upstreams
	@$(BIN)/relay run --sandbox

listen: install ## a receiver that verifies signatures, on port 9000
	@$(BIN)/relay listen --port 9000

test: install ## every test that CI runs
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  echo "the browser tests are left out: there is no Chromium (apt-get install chromium)" >&2
	@$(BIN)/pytest -q -n 2 --dist worksteal

lint: install ## formatters, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install ## mend what the formatter and the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install ## benchmarks, as ratios against the bare clients
	@$(BIN)/python -m tests.benchmarks

requirements: ## pin the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --upgrade pyproject.toml -o deploy/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group dev -c deploy/requirements.txt pyproject.toml -o tests/requirements.txt

clean: ## remove .venv, caches and the sandbox's data
	@test ! -e .relay/relays.lock || $(PYTHON) -c \
	  'import fcntl; fcntl.flock(open(".relay/relays.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || \
	  { echo "a relay runs on .relay: stop it first" >&2; exit 1; }
	rm -rf .venv .relay .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
