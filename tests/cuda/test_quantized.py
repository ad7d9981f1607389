"""Kernels of quantized models in the emulator, against the NumPy reference.

int8-full: the same bits, outputs and states. The other schemes: near the reference of the same
quantized graph. Scheme int8 rounds what it computed in floating point: where that lies between two
whole numbers one unit in the last place decides, and so recordings here hold no such value.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests import models
from tests.cuda.emulated import EmulatedGpu
from tests.quantized_models import recordings, step_graph

Array = NDArray[Any]
FP32, FP16 = 2e-6, 1e-3
"""Largest error, relative to the largest expected value where that exceeds 1."""

MODELS: Mapping[str, Any] = {
    "stack": models.stacked_model(
        ops=("LSTM", "GRU"), hidden=20, features=5, head="sequence", steps=None
    ),
    "lstm": models.lstm_model(hidden=37, features=5, peepholes=True, clip=3.0, steps=None),
    "lstm_input_forget": models.lstm_model(hidden=12, features=6, input_forget=True, steps=None),
    "gru": models.gru_model(hidden=21, features=7, steps=None),
    "rnn": models.rnn_model(hidden=9, features=4, steps=None, gain=0.5),
    "gru_linear": models.gru_model(hidden=33, features=3, linear_before_reset=True, steps=None),
}


def compile_pair(
    name: str,
    scheme: str,
    target: str,
    folder: Path,
    shape: str,
    *,
    groups: str = "none",
    integer_io: bool = False,
    **more: str,
) -> tuple[Artifact, str, Artifact]:
    """A quantized model for a chip, the PTX of its kernels, and the same for the reference.

    `more` are further options of the target.
    """
    model = MODELS[name]
    asked: dict[str, Any] = {
        "quantize": scheme,
        "calibration": recordings(step_graph(model), frames=150),
        "quantize_options": QuantizeOptions(integer_io=integer_io, wide_h=False),
        "check": False,
    }
    options = {"shape": shape, "groups": groups, **more}
    made = compile_model(model, target=target, target_options=options, dump=folder, **asked)
    (listing,) = folder.glob("*_kernels.txt")
    return (
        made,
        listing.read_text(encoding="utf-8"),
        compile_model(model, **asked, target=REFERENCE),
    )


REFERENCE = "reference"


def make_frames(artifact: Artifact, count: int, streams: int) -> Array:
    """A walk within the range of the recordings, in the type of the input."""
    (spec,) = artifact.signature.inputs
    rng = np.random.default_rng(4)
    shape = (count, streams, *spec.shape)
    walk = np.sin(np.cumsum(rng.normal(0, 0.3, shape), axis=0)) + rng.normal(0, 0.2, shape)
    if spec.dtype.is_float:
        return walk.astype(np.float32)
    return np.clip(np.rint(walk * 12000), -32768, 32767).astype(spec.dtype.numpy)


def run_streams(
    artifact: Artifact, x: Array, cuts: list[int]
) -> tuple[dict[str, Array], list[bytes]]:
    """All outputs of all frames, in chunks, and the states at the end, of every stream."""
    session = artifact.session(streams=x.shape[1])
    parts = [_by_name(artifact, session.run(chunk)) for chunk in np.split(x, cuts)]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return outputs, [bytes(session.snapshot(stream)) for stream in range(x.shape[1])]


def run_reference(artifact: Artifact, x: Array) -> tuple[dict[str, Array], list[bytes]]:
    """The same, stream by stream."""
    outputs, states = [], []
    for stream in range(x.shape[1]):
        session = artifact.session()
        outputs.append(_by_name(artifact, session.run(x[:, stream])))
        states.append(bytes(session.snapshot()))
    return {name: np.stack([each[name] for each in outputs], 1) for name in outputs[0]}, states


def _by_name(artifact: Artifact, result: Any) -> dict[str, Array]:
    if isinstance(result, Mapping):
        return dict(result)
    return {artifact.signature.outputs[0].name: result}


@pytest.mark.parametrize(
    ("name", "target", "shape", "seed"),
    [
        ("stack", "cuda:sm_87", "block", None),
        ("lstm", "cuda:sm_90", "exchange", 1),
        ("gru_linear", "cuda:sm_90", "cluster", 2),
    ],
)
def test_integers_are_the_reference(
    gpu: EmulatedGpu, tmp_path: Path, name: str, target: str, shape: str, seed: int | None
) -> None:
    """int8-full: the bits of the reference in every shape, in chunks, outputs and states."""
    if target.endswith("87"):
        gpu.prepare((8, 7), 16)
    made, gpu.ptx, reference = compile_pair(name, "int8-full", target, tmp_path, shape)
    gpu.seed = seed
    assert made.manifest["target"]["facts"]["kernels"][0]["shape"] == shape
    streams = 2 if shape == "block" else 1
    x = make_frames(made, 48 if shape == "block" else 24, streams)
    wanted, states = run_reference(reference, x)
    found, found_states = run_streams(made, x, [1, 14, 17])
    assert gpu.failure is None
    for output, values in wanted.items():
        np.testing.assert_array_equal(found[output], values)
    assert found_states == states


def test_integers_at_the_borders(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """integer_io: whole numbers go in and come out; states are restored as they were."""
    made, gpu.ptx, reference = compile_pair(
        "lstm_input_forget", "int8-full", "cuda:sm_90", tmp_path, "block", integer_io=True
    )
    x = make_frames(made, 30, 1)
    assert x.dtype == np.int16
    wanted, _ = run_reference(reference, x)
    found, _ = run_streams(made, x, [11])
    for output, values in wanted.items():
        assert values.dtype.kind == "i"
        np.testing.assert_array_equal(found[output], values)
    session = made.session()
    session.run(x[:9, 0])
    snapshot = session.snapshot()
    rest = _by_name(made, session.run(x[9:, 0]))
    session.restore(snapshot)
    again = _by_name(made, session.run(x[9:, 0]))
    for output, values in wanted.items():
        np.testing.assert_array_equal(rest[output], values[9:, 0])
        np.testing.assert_array_equal(again[output], values[9:, 0])


@pytest.mark.parametrize(
    ("scheme", "name", "shape"),
    [
        ("int8", "stack", "block"),
        ("int8", "gru", "exchange"),
        ("w8", "lstm", "block"),
        ("w4", "lstm", "cluster"),
    ],
)
def test_schemes_in_floating_point(
    gpu: EmulatedGpu, tmp_path: Path, scheme: str, name: str, shape: str
) -> None:
    """int8, w8 and w4: near the reference of the same quantized graph, in chunks."""
    made, gpu.ptx, reference = compile_pair(name, scheme, "cuda:sm_90", tmp_path, shape)
    assert made.manifest["target"]["facts"]["kernels"][0]["shape"] == shape
    assert_near(gpu, made, reference, FP32)


def test_half_precision(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """fp16: near the reference of the same graph, and within 1e-3 of the float32 model."""
    made, gpu.ptx, reference = compile_pair("gru_linear", "fp16", "cuda:sm_90", tmp_path, "block")
    assert_near(gpu, made, reference, FP32)
    exact = compile_model(MODELS["gru_linear"], target=REFERENCE, check=False)
    assert_near(gpu, made, exact, FP16)


def assert_near(gpu: EmulatedGpu, made: Artifact, reference: Artifact, tolerance: float) -> None:
    """All outputs of some frames within a tolerance."""
    x = make_frames(made, 24, 1)
    wanted, _ = run_reference(reference, x)
    found, _ = run_streams(made, x, [1, 14])
    assert gpu.failure is None
    for output, values in wanted.items():
        assert error_of(found[output], values) <= tolerance, output


def error_of(found: Array, wanted: Array) -> float:
    """The largest error, relative to the largest expected value where that exceeds 1."""
    return float(np.max(np.abs(found - wanted)) / max(1.0, float(np.max(np.abs(wanted)))))
