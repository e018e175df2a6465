# `make demo` and `make test` each do all the set-up by themselves, in .venv; `make test-mindspore` in .venv-mindspore.
PYTHON ?= python3
EXTRAS ?= dev
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(EXTRAS)
ALONE  := .venv-mindspore
ALONE_EXTRAS := test,mindspore
DEMO   := runs/demo
# Flags of pytest, such as TESTS="-k segments".
TESTS  ?=
# Processes that share the tests: one a core and at most 8, or a number; with 0 pytest runs them itself, for a debugger.
WORKERS ?= auto
# A thread each: twice as many threads as cores wait for each other most of the time.
PYTEST := -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo test test-mindspore check check-full format clean

demo: $(READY)
	rm -rf $(DEMO) $(DEMO)-random
	$(BIN)/gpt1 next mini "The sun rises in the"
	$(BIN)/gpt1 generate mini "The old house" --max-tokens 60
	$(BIN)/gpt1 finetune --recipe quickstart --data reviews --out $(DEMO)
	$(BIN)/gpt1 finetune --recipe quickstart --data reviews --model random:mini --tokenizer mini --out $(DEMO)-random
	$(BIN)/gpt1 evaluate $(DEMO) --data reviews --compare $(DEMO)-random
	$(BIN)/gpt1 predict $(DEMO) "Warm, funny and over far too soon." "The handle broke on the second day."

test: $(READY)
	$(BIN)/ruff check src tests benchmarks examples notebooks
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not slow" $(TESTS)

test-mindspore: $(ALONE)/.ready
	OMP_NUM_THREADS=1 $(ALONE)/bin/python $(PYTEST) -m "not slow" $(TESTS)

check-full: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(TESTS)

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks examples
	$(BIN)/ruff format src tests benchmarks examples

define install  # 1: the environment, 2: the extras
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(2)]'
endef

$(READY): pyproject.toml constraints.txt
	$(call install,$(VENV),$(EXTRAS))
	touch $(READY)

$(ALONE)/.ready: pyproject.toml constraints.txt
	$(call install,$(ALONE),$(ALONE_EXTRAS))
	touch $@

clean:
	rm -rf $(VENV) $(ALONE) runs build dist
