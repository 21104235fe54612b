# make train   a GRPO-Transformer on the embedded data, compared with random search and TPE on held-out datasets
# make test    the whole test suite
# make help    everything else
#
# Works on a fresh machine with Python 3.11 or newer: the first target that needs it makes .venv and installs into it,
# again only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
RUN ?= first
WORKERS ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help install train test lint format bundle bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv and install hpo_gym with everything that train and test need

$(STAMP):
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; minutes on a fresh machine) ..."
	@$(BIN)/python -m pip install --quiet -e ".[zoo,smac,sb3,live,dask,openml,test,dev]" -c constraints.txt
	@rm -f $(VENV)/.installed-*
	@touch $@

train: $(STAMP) ## Train a GRPO-Transformer (RUN=<name>: not runs/first), then compare it with random search and TPE
	$(BIN)/python train.py agent=grpo agent.total_steps=300000 env.num_envs=256 env.budget=30 \
	  validate_every=100000 validation_seeds=2 name=$(RUN) overwrite=true
	$(BIN)/python evaluate.py agents=[random,tpe,grpo] run=runs/$(RUN) budget=50
	@echo "Plots:"; find runs/$(RUN) -name '*.png' | sed 's/^/  /'

# One torch thread per worker: two workers that each start a thread per core slow each other down. Whole files: what the
# tests of a file share is made once; in the order of conftest.py, the long ones first. With bytecode, whatever the
# shell says: many tests start an interpreter, which would compile the packages anew.
test: $(STAMP) ## Run the whole test suite
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) \
	  --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP) ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Repair style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bundle: $(STAMP) ## Refit the embedded surfaces (needs HPO_GYM_DATA; takes long)
	$(BIN)/python -m hpo_gym.fit_bundle

bench: $(STAMP) ## Measure throughput and start-up time
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/throughput.py

clean: ## Remove caches and build products; runs/ and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
