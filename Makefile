# Everything here works from a fresh clone with nothing but Python 3.11+ and make on the machine: the first target that
# needs an environment makes it, from a lock file whose every package is checked against its hash.
# All paths are relative, so that the clone may lie in a folder with a space in its name.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

# PYTHON names the interpreter that makes the environments; without it the first one that fits.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$python && exit; \
	done; echo python3)
endif
UV ?= uv
OUTPUT ?= demo-output
PREFIX ?= /opt/millwatch

# Only wheels: no lock file carries what building a source distribution would need. -qq leaves errors.
# In a clone bytecode is left to the first import, which is quicker; an installed service may not write its own.
INSTALL := -m pip --disable-pip-version-check --no-input -qq install --progress-bar off
LOCKED := --only-binary :all: --require-hashes -r
EDITABLE := --no-deps --no-build-isolation --no-index --editable .
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate $(LOCK_ARGS)

##@ Look at it

.PHONY: demo
demo: .venv/.demo  ## inspect a shipped recording end to end and show what was found; OUTPUT=demo-output
	@.venv/bin/millwatch demo --output "$(OUTPUT)"

##@ Work on it

.PHONY: test
test: .venv/.test  ## the test suite without torch; ARGS="-k name" goes to pytest
	@.venv/bin/python -m pytest $(ARGS)

# Two processes: the fake driver stays in the one into which it is loaded, and answers whoever asks for a driver there.
.PHONY: test-gpu
test-gpu: .venv-gpu/.gpu  ## the tests of the GPU path that need no GPU (600 MB, PyCUDA is compiled); ARGS as above
	@.venv-gpu/bin/python -m pytest tests/gpu --ignore tests/gpu/backend $(ARGS)
	@.venv-gpu/bin/python -m pytest tests/gpu/backend $(ARGS)

.PHONY: test-train
test-train: .venv-train/.train  ## the tests of training/, in an environment with torch (6 GB); ARGS as above
	@.venv-train/bin/python -m pytest tests/training $(ARGS)

.PHONY: lint
lint: .venv/.test  ## ruff (rules and format) and mypy --strict
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

.PHONY: fuzz
fuzz: .venv/.test  ## fuzz what reads frames, guided by coverage; ARGS="--seconds 60 --seed 1"
	@.venv/bin/python -m tests.hostile.fuzz $(ARGS)

.PHONY: faults
faults: .venv/.test  ## hurt a running service and count what came of its frames; ARGS="--scenario kills --seed 1"
	@.venv/bin/python -m tests.faults.run $(ARGS)

.PHONY: bench
bench: .venv/.test  ## speed of the cascade alone and end to end, as JSON
	@.venv/bin/millwatch bench $(ARGS)

.PHONY: train-reference
train-reference: .venv-train/.train  ## train the shipped cascade again from its seed, into cascades/reference
	@.venv-train/bin/python -m training.reference --output cascades/reference $(ARGS)

##@ Install it

.PHONY: install
install: .venv/.demo  ## the service without demo and tests into a new environment; PREFIX=/opt/millwatch
	@$(MAKE) check-python
	@echo "install       $(PREFIX) from requirements/daemon.txt"
	@rm -rf build/wheel
	@.venv/bin/python -m pip --disable-pip-version-check -qq wheel --no-deps --no-build-isolation --no-index --wheel-dir build/wheel .
	@$(PYTHON) -m venv "$(PREFIX)"
	@"$(PREFIX)/bin/python" $(INSTALL) $(LOCKED) requirements/daemon.txt
	@"$(PREFIX)/bin/python" $(INSTALL) --no-deps --no-index --force-reinstall build/wheel/*.whl
	@"$(PREFIX)/bin/millwatch" --version

##@ Keep it

.PHONY: lock
lock:  ## write requirements/*.txt again; needs uv, LOCK_ARGS=--upgrade takes newer releases
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv, or name it with UV=/path/to/uv" >&2; exit 2; }
	@$(COMPILE) --extra demo --extra test requirements/build.in pyproject.toml -o requirements/test.txt
	@$(COMPILE) -c requirements/test.txt pyproject.toml -o requirements/daemon.txt
	@$(COMPILE) --extra demo -c requirements/test.txt requirements/build.in pyproject.toml -o requirements/demo.txt
	@$(COMPILE) --extra demo --extra test --extra train -c requirements/test.txt requirements/build.in \
		requirements/train.in pyproject.toml -o requirements/train.txt
	@$(COMPILE) --extra demo --extra test -c requirements/test.txt requirements/build.in requirements/gpu-test.in \
		pyproject.toml -o requirements/gpu-test.txt
	@$(COMPILE) --no-deps requirements/gpu-source.in -o requirements/gpu-source.txt

.PHONY: clean
clean:  ## remove the environments, compiled engines, caches and demo output
	@rm -rf .venv .venv-train .venv-gpu build dist demo-output engines/compiled .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find daemon engines training benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@awk 'BEGIN {FS = ":.*##"} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*##/ {printf "  make %-16s %s\n", $$1, $$2}' Makefile

# The environments. A stamp says that the lock beside it is installed; a newer lock installs again.

.venv/.demo: requirements/demo.txt pyproject.toml | .venv/.created
	@echo "install       .venv from requirements/demo.txt"
	@.venv/bin/python $(INSTALL) --no-compile $(LOCKED) requirements/demo.txt
	@.venv/bin/python $(INSTALL) $(EDITABLE)
	@touch $@

.venv/.test: requirements/test.txt pyproject.toml | .venv/.created
	@echo "install       .venv from requirements/test.txt"
	@.venv/bin/python $(INSTALL) --no-compile $(LOCKED) requirements/test.txt
	@.venv/bin/python $(INSTALL) $(EDITABLE)
	@touch $@

.venv-train/.train: requirements/train.txt pyproject.toml | .venv-train/.created
	@echo "install       .venv-train from requirements/train.txt (6 GB)"
	@.venv-train/bin/python $(INSTALL) --no-compile $(LOCKED) requirements/train.txt
	@.venv-train/bin/python $(INSTALL) $(EDITABLE)
	@touch $@

# PyCUDA's wheel lies in build/, so that making the environment anew does not compile it again.
.venv-gpu/.gpu: requirements/gpu-test.txt requirements/gpu-source.txt requirements/gpu_source.py pyproject.toml | .venv-gpu/.created
	@echo "install       .venv-gpu from requirements/gpu-test.txt"
	@.venv-gpu/bin/python $(INSTALL) --no-compile $(LOCKED) requirements/gpu-test.txt
	@.venv-gpu/bin/python requirements/gpu_source.py build/gpu
	@.venv-gpu/bin/python $(INSTALL) --no-compile --no-deps --no-index --force-reinstall build/gpu/*.whl
	@.venv-gpu/bin/python $(INSTALL) $(EDITABLE)
	@touch $@

%/.created:
	@$(MAKE) check-python
	@echo "environment   $* ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $*
	@touch $@

.PHONY: check-python
check-python:
	@command -v $(PYTHON) >/dev/null || { echo "Millwatch needs Python 3.11 to 3.14, and there is no $(PYTHON): install it, or name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "Millwatch needs Python 3.11 to 3.14, and $(PYTHON) is $$($(PYTHON) --version 2>&1): name another with make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
