"""The kernel that waits for frames, of quantized models, against the NumPy reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from tests.cuda.emulated import EmulatedGpu
from tests.cuda.test_quantized import FP32, compile_pair, error_of, make_frames

Array = NDArray[Any]
FRAMES, STOPS_AT = 9, 4


def compile_waiting(
    gpu: EmulatedGpu, folder: Path, name: str, scheme: str, shape: str, **options: Any
) -> tuple[Artifact, Artifact]:
    """A quantized model whose kernel waits, ready on the emulated GPU, and its reference."""
    made, gpu.ptx, reference = compile_pair(
        name, scheme, "cuda:sm_90", folder, shape, doorbell="yes", **options
    )
    gpu.limit = 2_000_000
    kernels = made.manifest["target"]["facts"]["kernels"]
    assert {k["shape"] for k in kernels if k["streams"] == "doorbell"} == {shape}
    return made, reference


def take_steps(
    artifact: Artifact, x: Array, **options: Any
) -> tuple[dict[str, Array], list[bytes]]:
    """Outputs frame by frame, and the states in the middle, where a kernel ends, and at the end."""
    rows: dict[str, list[Array]] = {spec.name: [] for spec in artifact.signature.outputs}
    states = []
    with artifact.session(**options) as session:
        for number, frame in enumerate(x, start=1):
            result = session.step(frame)
            for name, made in rows.items():
                made.append(np.array(result[name] if isinstance(result, Mapping) else result))
            if number in (STOPS_AT, len(x)):
                states.append(session.snapshot().state)
    return {name: np.array(made) for name, made in rows.items()}, states


@pytest.mark.parametrize(
    ("name", "shape", "integer_io", "seed"),
    [
        ("lstm", "block", False, None),
        ("lstm", "exchange", True, 1),
        ("gru", "exchange", False, 2),
        ("gru_linear", "cluster", True, 3),
    ],
)
def test_integers_are_the_reference(
    gpu: EmulatedGpu, tmp_path: Path, name: str, shape: str, integer_io: bool, seed: int | None
) -> None:
    """int8-full: the bits of the reference in every shape, outputs and states, any borders."""
    made, reference = compile_waiting(
        gpu, tmp_path, name, "int8-full", shape, integer_io=integer_io
    )
    gpu.seed = seed
    x = make_frames(made, FRAMES, 1)[:, 0]
    assert x.dtype == (np.int16 if integer_io else np.float32)
    wanted, states = take_steps(reference, x)
    found, found_states = take_steps(made, x, latency="doorbell")
    assert gpu.failure is None
    for output, values in wanted.items():
        assert found[output].dtype == values.dtype
        np.testing.assert_array_equal(found[output], values)
    assert found_states == states


@pytest.mark.parametrize(
    ("scheme", "name", "shape"),
    [("int8", "stack", "block"), ("int8", "gru", "exchange"), ("w4", "lstm", "cluster")],
)
def test_schemes_in_floating_point(
    gpu: EmulatedGpu, tmp_path: Path, scheme: str, name: str, shape: str
) -> None:
    """int8 and w4: near the reference of the same quantized graph, and the bits of plain steps."""
    made, reference = compile_waiting(gpu, tmp_path, name, scheme, shape)
    x = make_frames(made, FRAMES, 1)[:, 0]
    wanted, _ = take_steps(reference, x)
    found, states = take_steps(made, x, latency="doorbell")
    assert gpu.failure is None
    plain, plain_states = take_steps(made, x)
    for output, values in wanted.items():
        assert error_of(found[output], values) <= FP32
        np.testing.assert_array_equal(found[output], plain[output])
    assert states == plain_states
