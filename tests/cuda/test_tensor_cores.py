"""Kernels for groups of streams, in float16 on tensor cores, in the emulator."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.engines.cuda_cubin import read_cubin
from edgelstm.errors import CapabilityError, EdgeLSTMError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.target import find_target
from edgelstm_targets.numba_cuda import chips, mma_placement
from tests import models
from tests.cuda.emulated import Compiled, EmulatedGpu, compile_for
from tests.cuda.test_parity import expected_outputs, stack, without_loop_barriers
from tests.cuda.test_resources import ALL

Array = NDArray[Any]
FP16 = 1e-3
"""Largest error, relative to the largest expected value where that exceeds 1."""

STREAMS = 35
"""Of no group a multiple: the last block is a part of one."""


def compile_half(model: Any, folder: Path, target: str = "cuda:sm_90", group: int = 32) -> Compiled:
    """Only a kernel for groups of so many streams."""
    return compile_for(model, target, folder, math="fp16", shape="tensor", groups=str(group))


def samples(frames: int, streams: int, features: int) -> Array:
    """Seeded frames."""
    shape = (frames, streams, features)
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def assert_near(actual: Any, expected: dict[str, Array], tolerance: float = FP16) -> None:
    """All outputs within the tolerance."""
    found = actual if isinstance(actual, dict) else {next(iter(expected)): actual}
    for name, wanted in expected.items():
        error = np.max(np.abs(found[name] - wanted)) / max(1.0, np.max(np.abs(wanted)))
        assert error <= tolerance, f"{name}: {error:.3g}"


SMALL = stack("LSTM", hidden=21, features=5)
CASES: dict[str, tuple[Any, int, str, int]] = {
    "lstm": (SMALL, 5, "cuda:sm_87", 32),
    "gru_reset_after": (
        models.gru_model(steps=None, hidden=9, linear_before_reset=True, clip=0.6),
        3,
        "cuda:sm_90",
        64,
    ),
    "gru_reset_before": (
        models.gru_model(steps=None, hidden=20, clip=0.6, initial_h="constant"),
        3,
        "cuda:sm_90",
        16,
    ),
    "lstm_attributes": (
        models.lstm_model(
            steps=None, peepholes=True, input_forget=True, clip=0.8, initial_c="constant"
        ),
        3,
        "cuda:sm_90",
        32,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cells(gpu: EmulatedGpu, tmp_path: Path, name: str) -> None:
    """Each cell, sizes that fill no tile, states as outputs."""
    model, features, target, group = CASES[name]
    gpu.prepare((8, 7), 16) if target.endswith("87") else None
    compiled = compile_half(model, tmp_path, target, group)
    gpu.ptx = compiled.ptx
    x = samples(4, STREAMS, features)
    assert_near(compiled.artifact.session(streams=STREAMS).run(x), expected_outputs(model, x))
    assert gpu.failure is None


@pytest.fixture
def stacked(gpu: EmulatedGpu, tmp_path: Path) -> tuple[Any, Compiled]:
    """Two layers and a head, with their kernel on the emulated GPU."""
    model = stack("LSTM", "GRU", hidden=20, features=9, head="sequence")
    compiled = compile_half(model, tmp_path)
    gpu.ptx = compiled.ptx
    return model, compiled


def test_layers_and_head_in_any_chunking(gpu: EmulatedGpu, stacked: tuple[Any, Compiled]) -> None:
    """A wavefront of two layers, a dense layer and softmax; chunks give the bits of their steps."""
    model, compiled = stacked
    x = samples(6, STREAMS, 9)
    whole = compiled.artifact.session(streams=STREAMS).run(x)
    assert_near(whole, expected_outputs(model, x))
    session = compiled.artifact.session(streams=STREAMS)
    pieces = [session.run(x[:1]), session.run(x[1:4]), session.step(x[4])[None], session.run(x[5:])]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("hidden", [20, 8])
def test_values_beyond_float16_saturate(gpu: EmulatedGpu, tmp_path: Path, hidden: int) -> None:
    """A sample above 65504 counts as 65504; no state becomes NaN, neither then nor later."""
    model = stack("LSTM", hidden=hidden, features=9, head="sequence")
    compiled = compile_half(model, tmp_path)
    gpu.ptx = compiled.ptx
    x = samples(4, STREAMS, 9)
    x[1, 5, 2:4] = 1e5, -1e5
    x[1, 6, 3] = 3e36
    x[2, 7] = -6e36
    found = compiled.artifact.session(streams=STREAMS).run(x)
    assert np.isfinite(found).all()
    assert_near(found, expected_outputs(model, np.clip(x, -65504, 65504)))


def test_streams_leave_and_join(gpu: EmulatedGpu, stacked: tuple[Any, Compiled]) -> None:
    """One that left stands still, whatever its rows hold; its neighbours do not notice."""
    _, compiled = stacked
    x = samples(4, STREAMS, 9)
    whole = compiled.artifact.session(streams=STREAMS).run(x)
    session = compiled.artifact.session(streams=STREAMS)
    session.run(x[:2])
    kept = session.snapshot(33)
    session.leave(33)
    session.leave(2)
    absent = x[2:].copy()
    absent[:, 33] = np.nan
    after = session.run(absent)
    others = [place for place in range(STREAMS) if place not in (2, 33)]
    np.testing.assert_array_equal(after[:, others], whole[2:, others])
    assert not after[:, [2, 33]].any()
    assert session.snapshot(33).state == kept.state
    assert session.join() == 2
    again = session.step(np.broadcast_to(x[0], x[0].shape))
    np.testing.assert_array_equal(again[2], whole[0, 2])


def test_weights_in_shared_memory_and_streamed(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warp with several tiles, on a chip whose shared memory does not hold all weights."""
    monkeypatch.setattr(mma_placement, "LAYER_WARPS", (2,))
    small = tuple(dataclasses.replace(chip, shared_bytes=30000) for chip in chips.CHIPS)
    monkeypatch.setattr(chips, "CHIPS", small)
    model = stack("LSTM", hidden=40, features=44)
    compiled = compile_half(model, tmp_path)
    why = compiled.kernels[0]["why"]
    assert "in shared memory" in why
    assert "read from L2" in why
    gpu.ptx = compiled.ptx
    x = samples(3, STREAMS, 44)
    assert_near(compiled.artifact.session(streams=STREAMS).run(x), expected_outputs(model, x))


def test_a_missing_barrier_is_caught(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Without the barrier of the time loop some order of the warps gives a wrong result."""
    gpu.prepare((8, 7), 16)
    compiled = compile_half(SMALL, tmp_path, "cuda:sm_87")
    x = samples(5, STREAMS, 5)
    expected = expected_outputs(SMALL, x)
    gpu.ptx, gpu.limit = compiled.ptx, 60_000

    def is_caught(seed: int) -> bool:
        gpu.seed = seed
        try:
            assert_near(compiled.artifact.session(streams=STREAMS).run(x), expected)
        except (AssertionError, EdgeLSTMError) as error:
            print(f"caught with seed {seed}: {error}")
            return True
        return False

    assert not any(is_caught(seed) for seed in range(2))
    gpu.change = without_loop_barriers
    assert any(is_caught(seed) for seed in range(3))


GATES = {32: 128, 64: 128, 128: 128}
"""Registers that no thread of a layer of that size exceeds."""

EVERY_RUN = ((32, "sm_87", 32), (64, "sm_90", 16), (128, "sm_90", 16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "chip", "group"),
    list(itertools.product(GATES, ("sm_87", "sm_90"), (16, 32))) if ALL else EVERY_RUN,
)
def test_registers_and_spills(tmp_path: Path, hidden: int, chip: str, group: int) -> None:
    """Weights stand in registers, whole up to 64 units, and nothing spills."""
    model = stack("LSTM", hidden=hidden, features=16)
    compiled = compile_half(model, tmp_path, f"cuda:{chip}", group)
    (kernel,) = (each for each in compiled.kernels if each["form"] == "cubin")
    code = bytes(compiled.artifact.container.section(kernel["section"]))
    resources = read_cubin(code)[kernel["entry"]]
    assert resources.frame_bytes == 0
    assert resources.registers <= GATES[hidden]
    assert "L2" not in kernel["why"]
    assert ("in shared memory" in kernel["why"]) == (hidden > 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"math": "fp8"}, "expected fp32, fp16"),
        ({"math": "fp16", "groups": "16+8"}, "expected auto, none, or some of 16, 32, 64 joined"),
        ({"math": "fp16", "shape": "tensor", "groups": "none"}, "leave no kernel"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], words: str) -> None:
    """Other arithmetics and groups, and what leaves nothing, are named."""
    with pytest.raises(CapabilityError, match=words):
        find_target("cuda:sm_90").options(options)


@pytest.mark.parametrize("options", [{"shape": "tensor"}, {"groups": "16"}])
def test_nobody_gets_float16_without_asking(options: dict[str, str]) -> None:
    """Groups of a float32 model want `math=fp16`."""
    with pytest.raises(CapabilityError, match="add --option math=fp16"):
        compile_model(SMALL, target="cuda:sm_90", target_options=options, check=False)


def test_stored_halves_are_multiplied_as_they_are(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Weights of --quantize fp16 are fragments already; what is near float32 stays near it."""
    options = {"math": "fp16", "shape": "tensor", "groups": "16"}
    compiled = compile_for(SMALL, "cuda:sm_90", tmp_path, quantize="fp16", **options)
    gpu.ptx = compiled.ptx
    x = samples(4, STREAMS, 5)
    assert_near(compiled.artifact.session(streams=STREAMS).run(x), expected_outputs(SMALL, x))
