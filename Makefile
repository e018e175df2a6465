# `make demo` and `make test` set up .venv by themselves; `make test-mindspore` sets up .venv-mindspore, without PyTorch,
# and `make test-numpy2` sets up .venv-numpy2, PyTorch alone with NumPy 2 (MindSpore needs NumPy 1).
PYTHON ?= python3
EXTRAS ?= dev
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(EXTRAS)
DEMO_EXTRAS := torch,serve
ALONE  := .venv-mindspore
ALONE_EXTRAS := test,mindspore
NUMPY2 := .venv-numpy2
# What depends on NumPy: arrays from and to the device, dropout's random numbers, files of weights and checkpoints.
NUMPY2_TESTS := $(addprefix tests/test_,accelerator_rows.py device_traits.py backend_dropout.py train_state.py \
	tensors.py run_formats.py loop_resume.py model_dir.py huggingface.py)
DEMO   := runs/demo
CODE   := src tests benchmarks examples scripts
# Flags of pytest, such as TESTS="-k segments".
TESTS  ?=
# Flags of scripts/check_wheel.py, such as CELLS="--all".
CELLS  ?= py311-numpy1
# Test processes: `auto` is one per core, at most 8; 0 runs the tests in pytest's own process, for a debugger.
WORKERS ?= auto
# One thread per process: with two per core, threads spend most of their time waiting for each other.
PYTEST := -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal
# The locked versions are those of Python 3.11 on Linux; elsewhere constraints.txt alone applies.
LOCK   := $(shell $(PYTHON) -c 'import sys; print("requirements.lock" * (sys.version_info[:2] == (3, 11) and sys.platform == "linux"))')

.PHONY: demo test test-mindspore test-numpy2 check-full lint format lock wheel clean

demo: $(VENV)/.ready-$(DEMO_EXTRAS)
	if [ -e $(DEMO)/metrics.json ]; then rm -rf $(DEMO); fi  # a stopped demo is resumed
	$(BIN)/gpt1 next mini "The sun rises in the"
	$(BIN)/gpt1 generate mini "The old house" --max-tokens 60
	$(BIN)/gpt1 finetune --data reviews --adapt 3 --out $(DEMO)
	$(BIN)/gpt1 predict $(DEMO) "Warm, funny and over far too soon." "The handle broke on the second day."
	@echo "To use the command gpt1: . $(BIN)/activate"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not slow" $(TESTS)

lint: $(READY)
	$(BIN)/ruff check $(CODE) notebooks
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/codespell $(CODE) docs .ci .github Makefile Dockerfile *.md *.toml *.txt *.yaml *.cff
	$(BIN)/mypy
	$(BIN)/lint-imports

test-mindspore: $(ALONE)/.ready
	OMP_NUM_THREADS=1 $(ALONE)/bin/python $(PYTEST) -m "not slow" $(TESTS)

test-numpy2: $(NUMPY2)/.ready
	OMP_NUM_THREADS=1 $(NUMPY2)/bin/python $(PYTEST) -m "not slow" $(NUMPY2_TESTS) $(TESTS)

check-full: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(TESTS)

format: $(READY)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lock: # resolves all dependencies anew; nothing is installed
	$(PYTHON) scripts/lock.py

wheel: $(READY) # builds dist/, and tests the wheel in environments of its own
	rm -rf dist
	PIP_CONSTRAINT="$(LOCK)" PIP_BUILD_CONSTRAINT="$(LOCK)" $(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	OMP_NUM_THREADS=1 $(BIN)/python scripts/check_wheel.py $(CELLS)

# PIP_CONSTRAINT also applies to the build backend with pip < 26.2, PIP_BUILD_CONSTRAINT with pip >= 25.3.
define install  # 1: the environment, 2: the extras
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is required: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(1)
	PIP_CONSTRAINT="constraints.txt $(LOCK)" PIP_BUILD_CONSTRAINT="$(LOCK)" \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(2)]'
endef

$(VENV)/.ready-%: pyproject.toml constraints.txt requirements.lock
	$(call install,$(VENV),$*)
	touch $@

$(ALONE)/.ready: pyproject.toml constraints.txt requirements.lock
	$(call install,$(ALONE),$(ALONE_EXTRAS))
	touch $@

# constraints.txt without the limits that MindSpore sets
$(NUMPY2)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(NUMPY2)
	grep -v '^numpy\|^pyarrow\|^mindspore' constraints.txt > $(NUMPY2)/constraints.txt
	PIP_CONSTRAINT=$(NUMPY2)/constraints.txt \
	$(NUMPY2)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[torch]' 'numpy>=2' hypothesis pytest pytest-xdist
	touch $@

clean:
	rm -rf $(VENV) $(ALONE) $(NUMPY2) runs build dist
