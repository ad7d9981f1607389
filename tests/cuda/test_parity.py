"""Kernels against the reference: every shape, cell and attribute, in the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.driver import compile_model
from tests import models
from tests.cuda.emulated import EmulatedGpu, compile_for

Array = NDArray[Any]
FP32 = 2e-6
"""Largest error, relative to the largest expected value where that exceeds 1."""


def stack(*ops: str, **options: Any) -> Any:
    """A model of recurrent layers over free time."""
    return models.stacked_model(ops=ops, steps=None, **options)


def expected_outputs(model: Any, frames: Array) -> dict[str, Array]:
    """What the reference makes of frames (n, streams, *frame)."""
    artifact = compile_model(model, target="reference", check=False)
    made = []
    for stream in range(frames.shape[1]):
        result = artifact.session().run(frames[:, stream])
        name = artifact.signature.outputs[0].name
        made.append(result if isinstance(result, dict) else {name: result})
    return {name: np.stack([each[name] for each in made], 1) for name in made[0]}


def assert_near(actual: Any, expected: dict[str, Array]) -> None:
    """All outputs within the tolerance."""
    found = actual if isinstance(actual, dict) else {next(iter(expected)): actual}
    for name, wanted in expected.items():
        error = np.max(np.abs(found[name] - wanted)) / max(1.0, np.max(np.abs(wanted)))
        assert error <= FP32, f"{name}: {error:.3g}"


def check(
    gpu: EmulatedGpu,
    model: Any,
    features: int,
    folder: Path,
    *,
    target: str = "cuda:sm_90",
    shape: str = "block",
    streams: int = 2,
    frames: int = 4,
    seed: int | None = None,
    late: int | None = None,
) -> list[dict[str, Any]]:
    """Run some frames, in two pieces, and compare; what the manifest says of the kernels."""
    compiled = compile_for(model, target, folder, shape=shape)
    gpu.ptx, gpu.seed, gpu.late = compiled.ptx, seed, late
    x = np.random.default_rng(7).standard_normal((frames, streams, features)).astype(np.float32)
    session = compiled.artifact.session(streams=streams, check_states=False)
    first, second = session.run(x[:1]), session.run(x[1:])
    assert gpu.failure is None
    if isinstance(first, dict):
        joined: Any = {name: np.concatenate([first[name], second[name]]) for name in first}
    else:
        joined = np.concatenate([first, second])
    assert_near(joined, expected_outputs(model, x))
    return compiled.kernels


@pytest.mark.parametrize(
    ("op", "target"),
    [("LSTM", "cuda:sm_87"), ("LSTM", "cuda:sm_90"), ("GRU", "cuda:sm_90"), ("RNN", "cuda:sm_90")],
)
def test_a_cell_in_one_block(gpu: EmulatedGpu, tmp_path: Path, op: str, target: str) -> None:
    """Each cell, sizes that fill no tile, on two chips."""
    if target.endswith("87"):
        gpu.prepare((8, 7), 16)
    check(gpu, stack(op, hidden=21, features=5), 5, tmp_path, target=target)


CASES: dict[str, Any] = {
    "peepholes": models.lstm_model(steps=None, peepholes=True),
    "input_forget": models.lstm_model(steps=None, input_forget=True, peepholes=True),
    "clip": models.lstm_model(steps=None, clip=0.3),
    "no_bias": models.lstm_model(steps=None, bias=False),
    "constant_states": models.lstm_model(steps=None, initial_h="constant", initial_c="constant"),
    "lstm_functions": models.lstm_model(
        steps=None, activations=("HardSigmoid", "Softsign", "Elu"), gain=0.3
    ),
    "gru_reset_after": models.gru_model(steps=None, linear_before_reset=True, clip=0.6),
    "gru_reset_before": models.gru_model(steps=None, clip=0.6, initial_h="constant"),
    "gru_functions": models.gru_model(
        steps=None, activations=("Affine", "LeakyRelu"), alpha=(0.3, 0.2), beta=(0.1,), gain=0.3
    ),
    "rnn_softplus": models.rnn_model(steps=None, activations=("Softplus",), gain=0.3),
    "rnn_scaled_tanh": models.rnn_model(
        steps=None, activations=("ScaledTanh",), alpha=(0.7,), beta=(0.4,)
    ),
    "rnn_thresholded": models.rnn_model(
        steps=None, activations=("ThresholdedRelu",), alpha=(0.1,), gain=0.3
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attributes(gpu: EmulatedGpu, tmp_path: Path, name: str) -> None:
    """Attributes of the recurrent operators, states as outputs."""
    check(gpu, CASES[name], 3, tmp_path)


def test_stacked_layers_and_head(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Layers as a wavefront, a dense layer and softmax, in one launch."""
    model = stack("LSTM", "GRU", hidden=20, features=9, head="sequence")
    check(gpu, model, 9, tmp_path, streams=3, frames=6)


def test_the_bundled_model(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """The demo: normalization of the input, two layers, head."""
    path = Path(__file__).parents[2] / "compiler/edgelstm_compiler/demo/tug_phase.onnx"
    check(gpu, path, 6, tmp_path, streams=1)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_weights_in_shared_memory_and_streamed(gpu: EmulatedGpu, tmp_path: Path, op: str) -> None:
    """A layer that fits nowhere reads part of its weights anew for every frame."""
    gpu.prepare((8, 6), 28)
    model = stack(op, hidden=168, features=40)
    kernels = check(gpu, model, 40, tmp_path, target="cuda:sm_86", streams=1, frames=3)
    assert "read from L2" in kernels[0]["why"]


@pytest.mark.parametrize(("op", "seed"), [("LSTM", None), ("LSTM", 1), ("GRU", 2)])
def test_blocks_that_exchange_words(
    gpu: EmulatedGpu, tmp_path: Path, op: str, seed: int | None
) -> None:
    """Two streams, some blocks each, polling words; GRU exchanges twice a frame."""
    model = stack(op, hidden=40, features=6)
    kernels = check(gpu, model, 6, tmp_path, shape="exchange", seed=seed)
    assert kernels[0]["shape"] == "exchange"


def test_blocks_of_a_cluster(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Hopper: blocks write into each other's shared memory."""
    model = stack("LSTM", hidden=40, features=6, head="sequence")
    kernels = check(gpu, model, 6, tmp_path, shape="cluster", seed=3)
    assert kernels[0]["shape"] == "cluster"


def test_one_stream_in_any_chunking(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Session: step and run give what the reference gives; states come back and are restored."""
    model = stack("LSTM", hidden=12, features=3, head="sequence")
    compiled = compile_for(model, "cuda:sm_90", tmp_path)
    gpu.ptx = compiled.ptx
    x = np.random.default_rng(3).standard_normal((5, 3)).astype(np.float32)
    expected = expected_outputs(model, x[:, None])["Z"][:, 0]
    session = compiled.artifact.session()
    rows = [session.step(frame).copy() for frame in x[:2]]
    snapshot = session.snapshot()
    rows += list(session.run(x[2:]))
    assert_near(np.array(rows), {"Z": expected})
    session.restore(snapshot)
    np.testing.assert_array_equal(session.run(x[2:]), rows[2:])
    session.reset()
    np.testing.assert_array_equal(session.step(x[0]), rows[0])


@pytest.mark.parametrize(("op", "hidden"), [("LSTM", 144), ("GRU", 72)])
@pytest.mark.parametrize("late", ["first", "last"])
def test_a_block_that_lags_is_waited_for(
    gpu: EmulatedGpu, tmp_path: Path, op: str, hidden: int, late: str
) -> None:
    """The others may be many frames quicker; sizes that leave no block of a team idle."""
    model = stack(op, features=8, hidden=hidden, head="sequence")
    (kernel, *_) = compile_for(model, "cuda:sm_90", tmp_path, shape="exchange").kernels
    block = 0 if late == "first" else kernel["team"] - 1
    check(gpu, model, 8, tmp_path, shape="exchange", streams=1, frames=6, late=block)


@pytest.mark.parametrize("shape", ["block", "exchange"])
def test_a_missing_barrier_is_caught(gpu: EmulatedGpu, tmp_path: Path, shape: str) -> None:
    """Without the barrier of the time loop some order of the warps gives a wrong result."""
    model = stack("LSTM", hidden=40, features=6)
    compiled = compile_for(model, "cuda:sm_90", tmp_path, shape=shape)
    x = np.random.default_rng(3).standard_normal((6, 1, 6)).astype(np.float32)
    expected = expected_outputs(model, x)
    gpu.ptx, gpu.limit = compiled.ptx, 60_000

    def is_caught(seed: int) -> bool:
        gpu.seed = seed
        session = compiled.artifact.session(streams=1)
        try:
            assert_near(session.run(x), expected)
        except (AssertionError, EdgeLSTMError) as error:
            print(f"caught with seed {seed}: {error}")
            return True
        return False

    assert not any(is_caught(seed) for seed in range(3))
    gpu.change = without_loop_barriers
    assert any(is_caught(seed) for seed in range(3))


def without_loop_barriers(ptx: str) -> str:
    """The kernels with those barriers removed that stand behind the first two of a role."""
    kept, seen = [], 0
    for line in ptx.splitlines():
        if ".entry" in line:
            seen = 0
        if "barrier.sync.aligned" in line:
            seen += 1
            if seen > 2:
                continue
        kept.append(line)
    return "\n".join(kept)
