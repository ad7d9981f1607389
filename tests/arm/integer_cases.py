"""Models of every attribute that int8-full takes, what they are given, and NumPy's bits for it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import recordings, step_graph

STEPS = 300
STREAMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (lstm_model, {"hidden": 19, "features": 5}),
    "lstm_one_unit": (lstm_model, {"hidden": 1, "features": 1}),
    "lstm_peepholes_clip": (
        lstm_model,
        {"hidden": 33, "features": 6, "peepholes": True, "clip": 3.0, "initial_h": "constant"},
    ),
    "lstm_input_forget": (lstm_model, {"hidden": 40, "features": 17, "input_forget": True}),
    "gru": (gru_model, {"hidden": 21, "features": 7, "initial_h": "constant"}),
    "gru_linear": (
        gru_model,
        {"hidden": 34, "features": 3, "linear_before_reset": True, "initial_h": "constant"},
    ),
    "rnn": (rnn_model, {"hidden": 23, "features": 5}),
    "stack": (stacked_model, {"ops": ("LSTM", "GRU", "LSTM"), "hidden": 18, "head": "sequence"}),
}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm_bidirectional": (
        lstm_model,
        {"hidden": 5, "direction": "bidirectional", "peepholes": True, "initial_c": "constant"},
    ),
    "lstm_reverse_batch": (lstm_model, {"hidden": 18, "direction": "reverse", "batch": 3}),
    "lstm_lengths": (
        lstm_model,
        {"hidden": 8, "batch": 4, "sequence_lens": (5, 3, 1, 0), "initial_h": "input"},
    ),
    "gru_bidirectional": (
        gru_model,
        {"hidden": 5, "direction": "bidirectional", "linear_before_reset": True, "clip": 1.0},
    ),
    "gru_hard": (
        gru_model,
        {
            "hidden": 9,
            "features": 37,
            "activations": ("HardSigmoid", "ScaledTanh"),
            "alpha": (0.3, 0.9),
            "beta": (0.4, 1.1),
            "initial_h": "input",
            "sequence_lens": (0, 5, 2),
            "batch": 3,
        },
    ),
    "stack": (stacked_model, {"ops": ("LSTM", "GRU"), "direction": "bidirectional", "steps": 7}),
}


def compile_integers(
    model: onnx.ModelProto,
    target: str,
    mode: str,
    given: list[Any],
    integer_io: bool,
    **options: Any,
) -> Artifact:
    """The model in int8-full, under the name "net"; more options are those of the quantizer."""
    shapes = {name: x.shape for name, x in given[0].items()} if mode == "call" else None
    return compile_model(
        model,
        target=target,
        mode=mode,  # type: ignore[arg-type]
        shapes=shapes,
        name="net",
        quantize="int8-full",
        calibration=given,
        quantize_options=QuantizeOptions(integer_io=integer_io, **options),
        check=False,
    )


def walk(artifact: Artifact, count: int, seed: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    """A walk with bursts of twice and eight times its height; integers as such, to the limits."""
    rng = np.random.default_rng(seed)
    frames = {}
    for spec in artifact.signature.inputs:
        walk = np.sin(np.cumsum(rng.normal(0, 0.4, (count, *spec.shape)), axis=0))
        walk *= rng.choice([1, 1, 1, 2, 8], (count, *[1] * len(spec.shape)))
        if not spec.dtype.is_float:
            limits = np.iinfo(spec.dtype.numpy)
            walk = np.clip(walk * (limits.max / 4), limits.min, limits.max)
        frames[spec.name] = walk.astype(spec.dtype.numpy)
    return frames


def as_bytes(result: Any) -> bytes:
    """All outputs, one behind the other."""
    values = result.values() if isinstance(result, dict) else [result]
    return b"".join(np.ascontiguousarray(value).tobytes() for value in values)


def stream(
    artifact: Artifact, frames: dict[str, np.ndarray[Any, Any]], cuts: Sequence[int] | None = None
) -> tuple[bytes, bytes]:
    """All that comes out, and the states at the end: in blocks and one single step.

    Args:
        artifact: what runs.
        frames: for each input.
        cuts: where blocks end, in order; None: after a third.
    """
    session = artifact.session()
    count = len(next(iter(frames.values())))
    rows = b""
    for start, stop in itertools.pairwise((0, *(cuts or (count // 3,)), count - 1)):
        block = session.run({name: x[start:stop] for name, x in frames.items()})
        values = block.values() if isinstance(block, dict) else [block]
        bytewise = [
            np.ascontiguousarray(x).reshape(stop - start, -1).view(np.uint8) for x in values
        ]
        rows += np.concatenate(bytewise, axis=1).tobytes()
    rows += as_bytes(session.step({name: x[-1] for name, x in frames.items()}))
    return rows, bytes(session.snapshot())


@functools.cache
def wanted_stream(name: str, integer_io: bool) -> tuple[Any, Any, Any, tuple[bytes, bytes]]:
    """A model, its calibration, what it is given, and what NumPy makes of it."""
    make, fields = STREAMS[name]
    model = make(steps=None, **fields)
    given = recordings(step_graph(model), frames=100)
    reference = compile_integers(model, "reference", "stream", given, integer_io)
    frames = walk(reference, STEPS)
    return model, given, frames, stream(reference, frames)


def integrator() -> tuple[onnx.ModelProto, Any]:
    """An LSTM that forgets nothing, and its calibration."""
    hidden = 19
    model = lstm_model(hidden=hidden, features=2, steps=None)
    for place, item in enumerate(model.graph.initializer):
        if item.name == "B":
            bias = numpy_helper.to_array(item).copy()
            bias[0, : 3 * hidden] = 5  # input, output and forget gate
            model.graph.initializer[place].CopyFrom(numpy_helper.from_array(bias, "B"))
    return model, recordings(step_graph(model), frames=60)


@functools.cache
def wanted_calls(name: str) -> tuple[Any, Any, list[dict[str, Any]], list[bytes]]:
    """A model in call mode, its calibration, some inputs, and NumPy's outputs for each."""
    make, fields = CALLS[name]
    model = make(**fields)
    given = recordings(step_graph(model, "call"))
    reference = compile_integers(model, "reference", "call", given, True)
    inputs = [walk(reference, 1, seed) for seed in range(4)]
    inputs = [{key: x[0] for key, x in each.items()} for each in inputs]
    for each in inputs[2:]:
        for x in each.values():
            x[...] = np.where(x < 0, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return model, given, inputs, [as_bytes(reference.session().call(each)) for each in inputs]
