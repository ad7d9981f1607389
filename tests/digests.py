"""Digests of what compilation gives: TensorIR of every kernel, packed weights, reference outputs.

A change of the house must not change the numbers. `python -m tests.digests` compares with
`tests/golden/digests.txt` and lists what differs; `--write` replaces that file. Nothing goes
through LLVM: the text of TensorIR, with its names in order of appearance, decides.

Each line is `model scheme target part digest`, the digest being 64 bits of SHA-256. Target `-` is
the reference engine: the bits of outputs and states over seeded frames, in floating point those of
one NumPy on one processor (its BLAS); write them where you compare.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgelstm.errors import CapabilityError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.target import Target, find_target
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import recordings, step_graph

GOLDEN = Path(__file__).parent / "golden" / "digests.txt"
JOBS = 2
FRAMES = 24

TARGETS = (
    "host",
    "aarch64",
    "rpi3",
    "armv7",
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m55",
)
SCHEMES = (Scheme.FP32, Scheme.FP16, Scheme.W4, Scheme.INT8, Scheme.INT8_FULL)
"""w8 shares all but the restoring of weights with w4 and fp16."""

_BOUNDED = ("HardSigmoid", "Tanh")
_FREE = ("Sigmoid", "Affine", "LeakyRelu")

Model = tuple[str, Callable[[], onnx.ModelProto]]
"""Mode, and what makes it."""

MODELS: dict[str, Model] = {
    "lstm": ("stream", lambda: lstm_model(hidden=8, steps=None)),
    "lstm_tail": ("stream", lambda: lstm_model(hidden=21, features=6, steps=None)),
    "lstm_wide": ("stream", lambda: lstm_model(hidden=32, features=9, steps=None)),
    "lstm_one": ("stream", lambda: lstm_model(hidden=1, features=1, steps=None)),
    "lstm_peepholes": ("stream", lambda: lstm_model(hidden=5, peepholes=True, steps=None)),
    "lstm_forget": ("stream", lambda: lstm_model(hidden=16, input_forget=True, steps=None)),
    "lstm_all": (
        "stream",
        lambda: lstm_model(hidden=9, input_forget=True, peepholes=True, clip=0.5, steps=None),
    ),
    "lstm_clip": ("stream", lambda: lstm_model(hidden=8, clip=0.3, bias=False, steps=None)),
    "lstm_functions": (
        "stream",
        lambda: lstm_model(
            hidden=8, activations=("HardSigmoid", "Sigmoid", "Tanh"), steps=None, gain=0.5
        ),
    ),
    "lstm_free": ("stream", lambda: lstm_model(hidden=8, activations=_FREE, gain=0.3, steps=None)),
    "lstm_batch": ("stream", lambda: lstm_model(hidden=8, batch=3, steps=None)),
    "lstm_chunk": ("call", lambda: lstm_model(hidden=40, features=37, steps=12)),
    "lstm_both": ("call", lambda: lstm_model(hidden=7, direction="bidirectional", batch=2)),
    "lstm_reverse": ("call", lambda: lstm_model(hidden=8, direction="reverse", peepholes=True)),
    "lstm_masked": (
        "call",
        lambda: lstm_model(
            hidden=8, batch=2, sequence_lens="input", initial_h="input", initial_c="input"
        ),
    ),
    "gru": ("stream", lambda: gru_model(hidden=8, steps=None)),
    "gru_tail": ("stream", lambda: gru_model(hidden=21, features=6, steps=None)),
    "gru_linear": ("stream", lambda: gru_model(hidden=8, linear_before_reset=True, steps=None)),
    "gru_linear_tail": (
        "stream",
        lambda: gru_model(hidden=37, features=5, linear_before_reset=True, clip=1.0, steps=None),
    ),
    "gru_functions": (
        "stream",
        lambda: gru_model(hidden=8, activations=_BOUNDED, clip=0.5, bias=False, steps=None),
    ),
    "gru_chunk": ("call", lambda: gru_model(hidden=40, features=37, steps=12)),
    "gru_both": ("call", lambda: gru_model(hidden=5, direction="bidirectional")),
    "gru_both_linear": (
        "call",
        lambda: gru_model(hidden=16, direction="bidirectional", linear_before_reset=True),
    ),
    "gru_masked": (
        "call",
        lambda: gru_model(hidden=8, batch=3, sequence_lens="input", initial_h="constant"),
    ),
    "rnn": ("stream", lambda: rnn_model(hidden=8, steps=None)),
    "rnn_relu": (
        "stream",
        lambda: rnn_model(hidden=17, activations=("Relu",), clip=5.0, steps=None),
    ),
    "rnn_both": ("call", lambda: rnn_model(hidden=6, direction="bidirectional", batch=2)),
    "stack": ("stream", lambda: stacked_model(steps=None, head="sequence")),
    "stack_mixed": ("stream", lambda: stacked_model(ops=("GRU", "LSTM"), steps=None, hidden=16)),
    "stack_final": ("stream", lambda: stacked_model(ops=("GRU",), steps=None, head="final_state")),
}

_NAME = re.compile(r"\b[A-Za-z_]\w*\b")
_LOCAL = re.compile(r"(?m)(?:^\s*|for |with .* as |def |, |\()([A-Za-z_]\w*)(?=: | = | in )")


def normalised(text: str) -> str:
    """TensorIR text with every local name replaced by its number in order of appearance."""
    numbers: dict[str, str] = {}
    own = set(_LOCAL.findall(text))

    def replace(match: re.Match[str]) -> str:
        name = match.group()
        return numbers.setdefault(name, f"n{len(numbers)}") if name in own else name

    return _NAME.sub(replace, text)


def model_lines(name: str) -> list[str]:
    """All lines of one model."""
    mode, make = MODELS[name]
    graph = step_graph(make(), mode)
    samples = recordings(graph)
    calibration = calibrate(graph, samples)
    lines = []
    for scheme in SCHEMES:
        for integer_io in (False, True) if scheme is Scheme.INT8_FULL else (False,):
            options = QuantizeOptions(integer_io=integer_io)
            label = scheme.value + ("-io" if integer_io else "")
            try:
                quantized = quantize_graph(graph, calibration, scheme, options).graph
            except (CapabilityError, UnsupportedOpError) as error:
                lines.append(f"{name} {label} - refused {digest(str(error).encode())}")
                continue
            lines.append(f"{name} {label} - bits {digest(_reference_bits(quantized))}")
            for target in TARGETS:
                backend = find_target(target)
                if backend.capabilities().has_float or integer_io:
                    lines += [f"{name} {label} {line}" for line in target_lines(backend, quantized)]
    return lines


def target_lines(backend: Target, graph: StepGraph) -> list[str]:
    """Weights and code of one graph on one target; a refusal is a line too."""
    takes = backend.capabilities()
    program = lower(graph, takes.unit_block, None, takes.weight_offset, takes.packing)
    stage, *_ = backend.stages(backend.options({}))
    try:
        sets = stage.run(program).functions
    except CapabilityError as error:
        return [f"{backend.name} refused {digest(str(error).encode())}"]
    lines = [f"{backend.name} weights {digest(program.weights)}"]
    prefix = f"{program.signature.name}_kernel"
    for isa, functions in sets:
        kernels = [f for f in functions if str(f.attrs["global_symbol"]).startswith(prefix)]
        text = normalised("\n".join(function.script() for function in kernels))
        lines.append(f"{backend.name} {isa.name} {digest(text.encode())}")
    return lines


def _reference_bits(graph: StepGraph) -> bytes:
    """Outputs and states over frames of a recording."""
    rng = np.random.default_rng(7)
    states = None
    parts: list[bytes] = []
    for _ in range(FRAMES if graph.mode == "stream" else 2):
        found = evaluate(graph, {i.value.name: _frame(rng, i) for i in graph.inputs}, states=states)
        states = found.states if graph.mode == "stream" else None
        parts += [np.ascontiguousarray(array).tobytes() for array in found.outputs.values()]
        parts += [np.ascontiguousarray(array).tobytes() for array in found.states.values()]
    return b"".join(parts)


def _frame(rng: np.random.Generator, item: Any) -> Any:
    kind = item.value.type
    if kind.dtype.is_float:
        return rng.standard_normal(kind.shape).astype(kind.dtype.numpy)
    if item.value.name == "sequence_lens":
        return rng.integers(0, 6, kind.shape).astype(kind.dtype.numpy)
    return rng.integers(-9000, 9000, kind.shape).astype(kind.dtype.numpy)


def digest(data: bytes) -> str:
    """The first 64 bits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def all_lines(jobs: int, models: list[str]) -> Iterator[str]:
    """The lines of models in order."""
    if jobs == 1:
        for name in models:
            yield from model_lines(name)
        return
    with get_context("spawn").Pool(jobs) as pool:
        for lines in pool.imap(model_lines, models):
            yield from lines


def main() -> int:
    """Compare or write; 1 where something differs."""
    parser = argparse.ArgumentParser(description="digests of compiled models")
    parser.add_argument("models", nargs="*", help="those to look at (default: all)")
    parser.add_argument("--write", action="store_true", help="replace the golden file")
    parser.add_argument("--jobs", type=int, default=JOBS)
    asked = parser.parse_args()
    models = asked.models or list(MODELS)
    found = list(all_lines(asked.jobs, models))
    if asked.write:
        GOLDEN.write_text("\n".join(found) + "\n", "utf-8")
        sys.stdout.write(f"{len(found)} digests of {len(models)} models written\n")
        return 0
    golden = [
        line for line in GOLDEN.read_text("utf-8").splitlines() if line.split()[0] in set(models)
    ]
    missing, new = sorted(set(golden) - set(found)), sorted(set(found) - set(golden))
    for line in (*(f"- {line}" for line in missing), *(f"+ {line}" for line in new)):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(found)} digests, {len(new)} differ\n")
    return 1 if missing or new else 0


if __name__ == "__main__":
    raise SystemExit(main())
