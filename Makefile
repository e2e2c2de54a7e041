# Everything there is to know: `make demo`, `make check`, `make test`. Each does its own set-up first.
PYTHON ?= python3
VENV := .venv
SYNAPSE_VENV := .venv-synapse
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK := $(UV) -q pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
  --no-emit-package bridgekit-mls
MLS := mls/Cargo.toml mls/Cargo.lock mls/pyproject.toml $(wildcard mls/src/*.rs)

.DEFAULT_GOAL := help
.PHONY: help venv mls synapse servers clients check format test demo demo-mimi bench lock clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.stamp ## Python environment with locked dependencies, in .venv

$(VENV)/.uv: requirements-bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "bridgekit needs Python 3.11 or newer; say which one with: make PYTHON=/path/to/python3.x"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "This Python cannot make virtual environments (Debian: apt-get install python3-venv)."; exit 1; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@touch $@

$(VENV)/.stamp: $(VENV)/.uv requirements.lock pyproject.toml
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

mls: venv ## The MLS engine for the MIMI connector (needs cargo; without it the others work)
	@if command -v cargo >/dev/null; then $(MAKE) --no-print-directory $(VENV)/.mls; \
	 else echo "No cargo here: the MIMI connector will say so, everything else works (https://rustup.rs)." >&2; fi

$(VENV)/.mls: $(VENV)/.stamp $(MLS)
	@echo "Building the MLS engine (some minutes the first time) ..."
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop -q --release --uv --manifest-path mls/Cargo.toml
	@touch $@

synapse: $(SYNAPSE_VENV)/.stamp ## Synapse from PyPI in an environment of its own (for demo and test)

$(SYNAPSE_VENV)/.stamp: $(VENV)/.uv requirements-synapse.lock
	$(UV) -q venv --allow-existing --python $(BIN)/python $(SYNAPSE_VENV)
	$(UV) pip install -q --python $(SYNAPSE_VENV)/bin/python --require-hashes -r requirements-synapse.lock
	@touch $@

servers: ## IRC and XMPP servers, services and PostgreSQL by apt, where that is allowed
	@scripts/install-servers

clients: ## Chromium and two newer IRC servers by apt, web clients by npm (for test), where that is allowed
	@scripts/install-servers tests
	@scripts/install-clients

check: venv ## ruff, mypy --strict, import-linter, hadolint; where cargo is, rustfmt and clippy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	@if command -v cargo >/dev/null; then $(MAKE) --no-print-directory $(VENV)/.mls-checked; fi

$(VENV)/.mls-checked: $(VENV)/.uv $(MLS)
	cargo fmt --manifest-path mls/Cargo.toml --check
	cargo clippy -q --locked --release --manifest-path mls/Cargo.toml -- -D warnings
	@touch $@

format: venv ## Put the code into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	@if command -v cargo >/dev/null; then cargo fmt --manifest-path mls/Cargo.toml; fi

test: venv mls synapse clients ## All tests; ARGS="tests/core -k edit" goes to pytest
	$(BIN)/pytest $(ARGS)

demo: venv synapse servers ## A real bridge between real servers; ONCE=1 plays the script, checks it and ends
	$(BIN)/bridgekit demo $(if $(ONCE),--once)

demo-mimi: venv mls ## Two MIMI providers that talk to each other; ONCE=1 plays the script, checks it and ends
	$(BIN)/bridgekit mimi demo $(if $(ONCE),--once)

bench: venv synapse $(if $(findstring mimi,$(ARGS)),mls) ## The figures and the goals; ARGS=mimi: MLS and MIMI providers
	$(BIN)/python -m tests.bench $(ARGS)

lock: $(VENV)/.uv ## Resolve the dependencies of pyproject.toml anew
	$(LOCK) --upgrade --all-extras --group dev pyproject.toml -o requirements.lock
	$(LOCK) --extra mimi --extra xmpp --constraint requirements.lock pyproject.toml -o requirements-image.lock
	$(LOCK) --upgrade --group bootstrap -o requirements-bootstrap.lock
	$(LOCK) --upgrade requirements-synapse.in -o requirements-synapse.lock

clean: ## Remove all that make made
	rm -rf $(VENV) $(SYNAPSE_VENV) .lab dist build mls/target mls/python/bridgekit_mls/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
