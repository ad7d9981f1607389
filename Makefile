# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The linker of the ziglang package is 411 MB: only where the system has none.
ZIG := $(if $(shell command -v ld.lld || command -v ld),,[zig])
PYTEST_ARGS ?= -n auto
PROJECTS := pyproject.toml compiler/pyproject.toml targets/pyproject.toml
SOURCES := edgelstm compiler targets tests examples

.PHONY: demo test digests test-cuda gates-cuda lint check bench bench-gpu fuzz fuzz-frames fuzz-streams fuzz-calls support-table accuracy-grid fuzz-onnx fuzz-artifacts soak soak-live soak-monitor bench-live bench-monitor long-bits format clean

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
	status=0; for table in table quantized recordings; do \
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
	EDGELSTM_EVERY_FLOAT=1 $(BIN)/pytest $(PYTEST_ARGS) tests/unit/targets/test_activations.py
	EDGELSTM_FUZZ_TABLES=6000 EDGELSTM_FUZZ_HOSTILE=8000 $(BIN)/pytest $(PYTEST_ARGS) tests/fuzz
	$(BIN)/python -m tests.fuzz.guarded_buffers 300
	$(BIN)/python -m tests.fuzz.hostile_inputs 1000
	$(BIN)/python -m tests.fuzz.many_sessions 10000

# Random models on the number of frames; altered ONNX files: see tests/fuzz/README.md.
fuzz-frames: $(VENV)/.dev-ready
	$(BIN)/python -m tests.fuzz.frame_counts --count 2000

# Random causal networks as streams, beside ONNX Runtime on the whole sequence.
fuzz-streams: $(VENV)/.dev-ready
	EDGELSTM_FUZZ_STREAMS=3000 EDGELSTM_FUZZ_NATIVE_STREAMS=300 $(BIN)/pytest $(PYTEST_ARGS) tests/stream/test_random_networks.py

fuzz-onnx: $(VENV)/.dev-ready
	$(BIN)/python -m tests.fuzz.onnx_mutations --count 5000

# Random networks with everyday operators and loops, in call mode, against ONNX Runtime.
fuzz-calls: $(VENV)/.dev-ready
	$(BIN)/python -m tests.fuzz.calls --count 5000 --native 1000

# README's support table and OPERATORS.md, from the models that prove them.
support-table: $(VENV)/.dev-ready
	$(BIN)/python -m tests.support

# Units, offsets, sparsity and outliers: int8 and int8-full against float64, by hand: takes minutes.
accuracy-grid: $(VENV)/.dev-ready
	$(BIN)/python -m tests.unit.quant.accuracy_grid

# int8-full to the bit over 100,000 steps (emulated: 5,000), drift over a million; by hand.
long-bits: $(VENV)/.dev-ready
	$(BIN)/python -m tests.soak.long_bits

# Five million steps on real IMU recordings: resets, snapshots, NaN, gaps; no drift, flat memory.
soak: $(VENV)/.dev-ready
	$(BIN)/python -m tests.soak.streams

# 24 hours of live samples with all that goes wrong, by hand: takes minutes.
soak-live: $(VENV)/.dev-ready
	$(BIN)/python -m tests.soak.live

# Eight hours of a monitor with viewers that come and go, killed in the middle, by hand: takes minutes.
soak-monitor: $(VENV)/.dev-ready
	$(BIN)/python -m tests.soak.monitor

# Delays of live runs against bare readers, and 50 patients over MQTT.
bench-live: $(VENV)/.dev-ready
	$(BIN)/python -m tests.bench.live

# Sensor to pixel with 20 viewers, and what the monitor's page costs at 1 kHz; a quiet machine.
bench-monitor: $(VENV)/.dev-ready
	$(BIN)/python -m tests.bench.monitor

# Artifacts with something wrong in them and right checksums, and frames for the agent.
fuzz-artifacts: $(VENV)/.dev-ready
	$(BIN)/python -m tests.fuzz.mutated_artifacts --count 3000
	$(BIN)/python -m tests.fuzz.frames --count 2000

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What it takes to compile, check and run models.
$(VENV)/.run-ready: $(PROJECTS) | $(VENV)/bin/python
	$(PIP) --editable . --editable './compiler[check]' --editable './targets$(ZIG)'
	touch $@

# The same and the tools of development.
$(VENV)/.dev-ready: $(PROJECTS) tests/monitor/web/package-lock.json | $(VENV)/bin/python
	$(PIP) --editable '.[dev]' --editable './compiler[check,emulate,report]' --editable './targets[zig]'
	$(BIN)/python -m tests.monitor.axe
	touch $@ $(VENV)/.run-ready

# The same and the wheels that compile for GPUs.
$(VENV)/.cuda-ready: $(PROJECTS) | $(VENV)/.dev-ready
	$(PIP) --editable '.[dev]' --editable ./compiler --editable './targets[cuda]'
	touch $@
