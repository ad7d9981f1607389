"""Groups of streams on tensor cores whose products are of whole numbers, in the emulator.

int8-full: the bits of the NumPy reference, outputs and states. int8: near it, as in all kernels.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.engines.cuda_cubin import read_cubin
from edgelstm.errors import CapabilityError, EdgeLSTMError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.ops import Dense
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant_report.trials import trial_graph
from edgelstm_compiler.target import find_target
from edgelstm_targets.numba_cuda import chips, mma_placement
from tests import models
from tests.cuda.emulated import EmulatedGpu
from tests.cuda.test_parity import without_loop_barriers
from tests.cuda.test_quantized import (
    FP32,
    compile_pair,
    make_frames,
    run_reference,
    run_streams,
)
from tests.cuda.test_resources import ALL
from tests.cuda.test_resources import GATES as MODEL_GATES
from tests.quantized_models import recordings, step_graph

Array = NDArray[Any]
STREAMS = 19
"""Of no group a multiple: the last block is a part of one."""


def compile_as(
    model: Any, scheme: str, folder: Path, options: dict[str, str]
) -> tuple[Artifact, str, Artifact]:
    """A model for sm_90, the PTX of its kernels, and the same for the reference."""
    asked: dict[str, Any] = {
        "quantize": scheme,
        "calibration": recordings(step_graph(model), frames=60),
        "quantize_options": QuantizeOptions(wide_h=False),
        "check": False,
    }
    made = compile_model(model, target="cuda:sm_90", target_options=options, dump=folder, **asked)
    (listing,) = folder.glob("*_kernels.txt")
    reference = compile_model(model, target="reference", **asked)
    return made, listing.read_text(encoding="utf-8"), reference


def assert_same_bits(gpu: EmulatedGpu, made: Artifact, reference: Artifact, frames: int) -> None:
    """All outputs and states of frames that come in chunks."""
    x = make_frames(made, frames, STREAMS)
    wanted, states = run_reference(reference, x)
    found, found_states = run_streams(made, x, [1, 4])
    assert gpu.failure is None
    for output, values in wanted.items():
        np.testing.assert_array_equal(found[output], values)
    assert found_states == states


@pytest.mark.parametrize(
    ("name", "group", "target"),
    [
        ("stack", "16", "cuda:sm_90"),
        ("lstm", "32", "cuda:sm_87"),
        ("lstm_input_forget", "64", "cuda:sm_90"),
        ("gru", "32", "cuda:sm_90"),
        ("gru_linear", "16", "cuda:sm_90"),
    ],
)
def test_integers_are_the_reference(
    gpu: EmulatedGpu, tmp_path: Path, name: str, group: str, target: str
) -> None:
    """int8-full: every cell, with a head and softmax, with peepholes and clip."""
    gpu.prepare((8, 7), 16) if target.endswith("87") else None
    made, gpu.ptx, reference = compile_pair(
        name, "int8-full", target, tmp_path, "tensor", groups=group
    )
    (kernel, *_) = made.manifest["target"]["facts"]["kernels"]
    assert (kernel["shape"], kernel["group"]) == ("tensor", int(group))
    assert_same_bits(gpu, made, reference, 12)


def test_integers_at_the_borders(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """integer_io: whole numbers go in and come out."""
    made, gpu.ptx, reference = compile_pair(
        "lstm_input_forget",
        "int8-full",
        "cuda:sm_90",
        tmp_path,
        "tensor",
        groups="16",
        integer_io=True,
    )
    assert make_frames(made, 1, 1).dtype == np.int16
    assert_same_bits(gpu, made, reference, 8)


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT8_FULL])
def test_a_dense_layer_alone(scheme: Scheme) -> None:
    """What `edgelstm schemes` compiles: without a recurrent layer all warps share the tiles."""
    graph = trial_graph(Dense())
    frames = {"x": np.random.default_rng(1).standard_normal((64, 1, 1, 3)).astype(np.float32)}
    quantized = quantize_graph(graph, calibrate(graph, [frames]), scheme, QuantizeOptions())
    target = find_target("cuda:sm_90")
    takes = target.capabilities()
    result: Any = lower(quantized.graph, takes.unit_block, None, takes.weight_offset, takes.packing)
    for stage in target.stages(target.options({"shape": "tensor", "groups": "16"})):
        result = stage.run(result)
    assert result.facts["kernels"][0]["group"] == 16


@pytest.mark.parametrize("name", ["stack", "gru", "rnn"])
def test_bytes_between_floating_point(gpu: EmulatedGpu, tmp_path: Path, name: str) -> None:
    """Scheme int8: exact sums, scaled by row, in front of cells in float32."""
    made, gpu.ptx, reference = compile_pair(
        name, "int8", "cuda:sm_90", tmp_path, "tensor", groups="16"
    )
    x = make_frames(made, 12, STREAMS)
    wanted, _ = run_reference(reference, x)
    found, _ = run_streams(made, x, [1, 5])
    assert gpu.failure is None
    for output, values in wanted.items():
        largest = max(1.0, float(np.max(np.abs(values))))
        assert np.max(np.abs(found[output] - values)) / largest <= FP32


def test_many_streams_go_in_groups_without_leave(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """int8-full is the same everywhere: a few streams one block each, more of them in groups."""
    gpu.prepare((9, 0), 1)
    made, gpu.ptx, reference = compile_pair(
        "lstm_input_forget", "int8-full", "cuda:sm_90", tmp_path, "auto", groups="16"
    )
    shapes = {kernel["shape"] for kernel in made.manifest["target"]["facts"]["kernels"]}
    assert shapes == {"block", "tensor"}
    x = make_frames(made, 3, 50)
    wanted, _ = run_reference(reference, x)
    for streams, entry in ((2, "tiny_many"), (50, "tiny_many_16")):
        gpu.clear()
        found, _ = run_streams(made, x[:, :streams], [1])
        assert any(note.startswith(f"cuLaunchKernel {entry} ") for note in gpu.notes())
        for output, values in wanted.items():
            np.testing.assert_array_equal(found[output], values[:, :streams])


def test_streams_leave_and_join(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """One that left stands still, and its neighbours do not notice."""
    made, gpu.ptx, _ = compile_pair(
        "lstm_input_forget", "int8-full", "cuda:sm_90", tmp_path, "tensor", groups="64"
    )
    x = make_frames(made, 4, STREAMS)
    whole, _ = run_streams(made, x, [])
    (name, values), *_ = whole.items()
    session = made.session(streams=STREAMS)
    session.run(x[:2])
    kept = session.snapshot(17)
    session.leave(17)
    after = session.run(x[2:])
    after = after[name] if isinstance(after, dict) else after
    others = [stream for stream in range(STREAMS) if stream != 17]
    np.testing.assert_array_equal(after[:, others], values[2:, others])
    assert not after[:, 17].any()
    assert session.snapshot(17).state == kept.state


WIDE = models.lstm_model(hidden=40, features=70, steps=None)


def test_weights_in_shared_memory_and_streamed(
    gpu: EmulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warp with several tiles, on a chip whose shared memory does not hold all weights."""
    monkeypatch.setattr(mma_placement, "LAYER_WARPS", (2,))
    small = tuple(dataclasses.replace(chip, shared_bytes=48000) for chip in chips.CHIPS)
    monkeypatch.setattr(chips, "CHIPS", small)
    options = {"shape": "tensor", "groups": "16"}
    made, gpu.ptx, reference = compile_as(WIDE, "int8-full", tmp_path, options)
    why = made.manifest["target"]["facts"]["kernels"][0]["why"]
    assert "in shared memory" in why
    assert "read from L2" in why
    assert_same_bits(gpu, made, reference, 6)


def test_a_missing_barrier_is_caught(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Without the barrier of the time loop some order of the warps gives other bits."""
    made, gpu.ptx, reference = compile_pair(
        "stack", "int8-full", "cuda:sm_90", tmp_path, "tensor", groups="16"
    )
    x = make_frames(made, 5, STREAMS)
    wanted, _ = run_reference(reference, x)

    def is_caught(seed: int) -> bool:
        gpu.seed = seed
        try:
            found, _ = run_streams(made, x, [])
        except EdgeLSTMError as error:
            print(f"caught with seed {seed}: {error}")
            return True
        return any(not np.array_equal(found[name], wanted[name]) for name in wanted)

    assert not is_caught(0)
    gpu.change, gpu.limit = without_loop_barriers, 60_000
    assert any(is_caught(seed) for seed in range(3))


GATES = {"LSTM (9, 64) x 1": 128, "GRU (9, 64) x 1": 128, "LSTM (64, 256) x 1": 168}
"""Registers that no thread of a group of 16 exceeds."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chip"),
    [(name, chip) for name in GATES for chip in ("sm_87", "sm_90")]
    if ALL
    else [("LSTM (9, 64) x 1", "sm_90"), ("GRU (9, 64) x 1", "sm_87")],
)
def test_registers_and_spills(name: str, chip: str) -> None:
    """int8-full in groups: no spills, and no more registers than the block has."""
    model = MODEL_GATES[name][0]
    artifact = compile_model(
        model,
        target=f"cuda:{chip}",
        target_options={"shape": "tensor", "groups": "16"},
        quantize="int8-full",
        calibration=recordings(step_graph(model), frames=40, count=2),
        check=False,
    )
    for kernel in artifact.manifest["target"]["facts"]["kernels"]:
        if kernel["form"] == "cubin":
            code = bytes(artifact.container.section(kernel["section"]))
            resources = read_cubin(code)[kernel["entry"]]
            assert resources.frame_bytes == 0
            assert resources.registers <= GATES[name]
            assert resources.registers * kernel["threads"] <= 65536


@pytest.mark.parametrize("scheme", ["w8", "w4"])
def test_weights_multiplied_in_floating_point_are_refused(scheme: str) -> None:
    """They are stored in few bits only; tensor cores have no code for them."""
    asked = {"quantize": scheme, "check": False}
    options = {"math": "fp16", "shape": "tensor"}
    with pytest.raises(CapabilityError, match="stored in 4 or 8 bits"):
        compile_model(WIDE, target="cuda:sm_90", target_options=options, **asked)
