# The commands of the project. Everything runs in .venv, which is made when it is missing.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: train eval test check lint types quick docs docs-check lock wheel clean
.DEFAULT_GOAL := train

.venv/.ready: pyproject.toml scripts/install.sh scripts/overrides.txt scripts/overrides-cpu.txt
	PYTHON="$(PYTHON)" sh scripts/install.sh .venv
	@touch $@

# What is learned from when nothing else is said: the small real model where its engine is installed.
TRIAL = $$(test -d .venv/lib/python3*/site-packages/vllm && echo experiment=nano)
train: .venv/.ready  ## learn a meta-memory (make train ARGS="seed=1")
	@$(BIN)/python experiments/train.py $(if $(filter experiment=% backbone=% dataset=%,$(ARGS)),,$(TRIAL)) $(ARGS)

eval: .venv/.ready  ## evaluate one (make eval ARGS="meta_memory=outputs/train/latest experiment=nano")
	@$(BIN)/python experiments/eval.py $(ARGS)

# Three processes for two cores: the one that tests engines waits for them most of its time.
test: .venv/.ready  ## every test
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

check: lint types quick  ## lint, types, generated docs and the quick tests

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/config_docs.py --check

types: .venv/.ready
	$(BIN)/mypy

quick: .venv/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not engine and not slow"

docs: .venv/.ready  ## write docs/config.md and docs/components from the registered components
	$(BIN)/python scripts/config_docs.py

docs-check: .venv/.ready  ## run every command of README, tutorial and notebook, and compare what they show
	$(BIN)/python scripts/docs_check.py

lock: .venv/.ready  ## write the versions that are installed here, which LOCKED=yes make installs
	$(BIN)/python -m uv pip freeze --quiet --python $(BIN)/python --exclude-editable | sed 's/+cpu$$//' >scripts/constraints.txt

wheel: .venv/.ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv dist build
