# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n auto
SOURCES := edgelstm compiler targets tests

.PHONY: demo test digests test-cuda gates-cuda lint check bench bench-gpu fuzz format clean

demo: $(VENV)/.run-ready
	$(BIN)/edgelstm demo

test: $(VENV)/.dev-ready
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.dev-ready
	status=0; for table in table quantized; do \
		$(BIN)/python -m tests.bench.$$table || status=1; \
	done; exit $$status

# TensorIR, packed weights and reference outputs of 30 models against tests/golden/digests.txt.
digests: $(VENV)/.dev-ready
	$(BIN)/python -m tests.digests

# Kernels for GPUs, compiled and emulated; no GPU needed.
test-cuda: $(VENV)/.cuda-ready
	$(BIN)/pytest $(PYTEST_ARGS) tests/cuda

# Registers and repeatable bytes of all sizes, by hand: takes minutes.
gates-cuda: $(VENV)/.cuda-ready
	EDGELSTM_CUDA_GATES=all $(BIN)/pytest $(PYTEST_ARGS) tests/cuda/test_resources.py tests/cuda/test_tensor_cores.py tests/cuda/test_integer_groups.py -k registers

# Parity and speed on a machine with a GPU, torch, numba and numba-cuda; installs nothing.
bench-gpu:
	$(PYTHON) -m tests.gpu.session

# Long property tests, by hand: more examples of the attribute matrix than CI has time for.
fuzz: $(VENV)/.dev-ready
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest $(PYTEST_ARGS) tests/parity tests/unit/streaming tests/unit/lowering tests/stream
	$(BIN)/python -m tests.fuzz.guarded_buffers 300
	$(BIN)/python -m tests.fuzz.hostile_inputs 1000
	$(BIN)/python -m tests.fuzz.many_sessions 10000

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What it takes to compile, check and run models.
$(VENV)/.run-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[compiler,check]'
	touch $@

# The same and the tools of development.
$(VENV)/.dev-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.run-ready

# The same and the wheels that compile for GPUs.
$(VENV)/.cuda-ready: pyproject.toml | $(VENV)/.dev-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cuda]'
	touch $@
