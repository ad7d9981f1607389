"""Random causal networks as streams: what ONNX Runtime gives on the whole sequence, end included.

`make fuzz-streams` runs 3,000 on the reference engine and 300 in compiled code.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.fuzz.stream_networks import random_network
from tests.fuzz.stream_replay import expect_equal, recording, replay

REFERENCE = int(os.environ.get("EDGELSTM_FUZZ_STREAMS", "24"))
NATIVE = int(os.environ.get("EDGELSTM_FUZZ_NATIVE_STREAMS", "2"))
BLOCK = 8
"""Networks of a test."""

REASONS = (
    "nothing is carried",  # a network of pointwise layers alone
    "neither time nor batch",  # the same, with time free
    "fixed beginning",  # a slice of a sequence that earlier slices have left short
    "nothing is left",
    "Slice mixes frames",  # of a sequence that slices have left a single frame
    "do not fit into",  # slices and kernels have left less than the next kernel covers
)
"""Why a network of these is refused, rightly."""


def compiled(seed: int, target: str) -> tuple[Artifact, object, int] | None:
    """A random network, with its number of frames; None where it is refused by name."""
    frames = int(np.random.default_rng(seed + 7).integers(8, 40))
    model = random_network(seed, frames=None if seed % 2 else frames)
    try:
        artifact = compile_model(model, target=target, mode="stream", check=False)
    except (StreamabilityError, ModelError) as error:
        if not any(reason in str(error) for reason in REASONS):
            raise
        return None
    # Of slices that leave a single frame nothing is along time.
    is_timed = artifact.signature.inputs[0].time_axis is not None
    return (artifact, model, frames) if is_timed else None


@pytest.mark.parametrize("first", range(0, REFERENCE, BLOCK))
def test_a_stream_is_the_sequence(first: int) -> None:
    """Any padding, stride, dilation, branch and reduction, in any chunking, to the last row."""
    compared = 0
    for seed in range(first, min(first + BLOCK, REFERENCE)):
        found = compiled(seed, "reference")
        if found is not None:
            artifact, model, frames = found
            compared += expect_equal(artifact, model, frames, seed)  # type: ignore[arg-type]
    assert compared


@pytest.mark.tvm
@pytest.mark.parametrize("seed", range(NATIVE))
def test_compiled_code_computes_the_same_stream(seed: int) -> None:
    """Rings, clocks and delay lines in machine code."""
    found = compiled(100_000 + seed, "host")
    if found is not None:
        artifact, model, frames = found
        expect_equal(artifact, model, frames, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(0, REFERENCE, 2))
def test_no_output_is_known_before_what_it_depends_on(seed: int) -> None:
    """A later sample never changes a row that is out; rows do change with a sample before them."""
    found = compiled(seed, "reference")
    if found is None:
        return
    artifact, model, frames = found
    x = recording(model, frames, seed)  # type: ignore[arg-type]
    cut = frames // 2
    other = x.copy()
    other[:, :, cut:] += 1.0
    before = replay(artifact, x[:, :, :cut], seed, is_ended=False)
    first, second = (replay(artifact, signal, seed + 1) for signal in (x, other))
    for name, rows in before.items():
        np.testing.assert_array_equal(first[name][: len(rows)], rows)
        np.testing.assert_array_equal(second[name][: len(rows)], rows)


def test_the_last_sample_that_a_row_depends_on_changes_it() -> None:
    """No output waits longer than it must: the delay that is told is the least one."""
    checked = 0
    for seed in range(0, REFERENCE):
        found = compiled(seed, "reference")
        if found is None:
            continue
        artifact, model, frames = found
        x = recording(model, frames, seed)  # type: ignore[arg-type]
        whole = replay(artifact, x, seed)
        for spec in artifact.signature.outputs:
            row = len(whole[spec.name]) // 2
            at = row * spec.stride + spec.delay
            is_smooth = all(node.op_type in _SMOOTH for node in model.graph.node)  # type: ignore[attr-defined]
            if spec.time_axis is None or not 0 < at < frames or not is_smooth or not spec.delay:
                continue
            moved = x.copy()
            moved[:, :, at] += 10.0
            changed = replay(artifact, moved, seed)[spec.name]
            assert not np.array_equal(changed[row], whole[spec.name][row]), (seed, spec)
            checked += 1
    assert checked or REFERENCE < BLOCK


_SMOOTH = frozenset(
    (
        *("Conv", "AveragePool", "Pad", "Tanh", "Sigmoid", "Add", "Mul", "Concat"),
        *("LSTM", "GRU", "RNN", "Transpose", "Squeeze", "CumSum"),
    )
)
"""Operators in which every weight counts, whatever the input."""
