# Two commands do everything on a machine with Python 3.11, pip, make and git:
#   make demo   trains a small model on real images, and records it
#   make test   runs the tests
# Both set up what they need in .venv, and can be repeated.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Half of the time of the tests is waiting for processes: four of them fill two cores.
JOBS ?= 4
# What a demo needs: the example's own packages, and the backends that TRACKING_BACKEND names.
comma := ,
named = $(if $(findstring $(1),$(TRACKING_BACKEND)),$(comma)$(1))
EXTRAS := jax$(call named,tensorboard)$(call named,wandb)
VIEWER := $(if $(findstring tensorboard,$(TRACKING_BACKEND)),"tensorboard>=2.18")
export JAX_PLATFORMS ?= cpu

.DEFAULT_GOAL := help
.PHONY: help demo test quick busy stress lint types docs wheel bench format clean

help:  ## show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	@# Dependency groups need a recent pip.
	$(PIP) install --quiet --upgrade "pip>=25.1"

$(VENV)/.demo-$(EXTRAS): $(BIN)/python pyproject.toml
	$(PIP) install --quiet --editable '.[$(EXTRAS)]' --group demo $(VIEWER)
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(PIP) install --quiet --editable '.[all]' --group demo --group test --group lint --group docs
	@touch $@

demo: $(VENV)/.demo-$(EXTRAS)  ## train a VAE on handwritten digits; TRACKING_BACKEND says where it is recorded
	$(BIN)/python examples/train_vae.py

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not stress and not wheel"

quick: $(VENV)/.dev  ## run the tests that start no trainings, deliverers or servers
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not system and not stress and not wheel"

busy: $(VENV)/.dev  ## run the tests that depend most on time beside twelve busy loops
	@# Only the files that have such tests: collecting all of them takes long there.
	$(BIN)/python -m tests.support.busy 12 -- $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m busy \
		$$(grep -rl --include='test_*.py' 'mark\.busy' tests)

stress: $(VENV)/.dev  ## run the long fault and kill campaigns
	$(BIN)/python -m pytest -m stress

lint: $(VENV)/.dev  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## check types, strictly
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev  ## build the documentation, strictly
	@# With --quiet warnings are not counted, and --strict passes.
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

wheel: $(VENV)/.dev  ## build the wheel, install it in clean environments and train with it
	$(BIN)/python -m pytest -m wheel

bench: $(VENV)/.dev  ## measure: ratios against wandb and tensorboardX used directly
	$(BIN)/python -m benchmarks

format: $(VENV)/.dev  ## bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what these commands made, but no recorded runs
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis
