"""Random causal networks as streams: what ONNX Runtime gives on the whole sequence, end included.

`make fuzz-streams` runs 3,000 on the reference engine and 300 in compiled code.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

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
    "cannot be reflected",  # the same, of what a mirrored end needs
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
    """No output waits longer than it must: the delay that is told is the least one.

    Without that sample the row is another one, or is none: the recording might have ended.
    """
    checked = sum(expect_least_delay(seed) for seed in range(REFERENCE))
    assert checked or REFERENCE < BLOCK


def expect_least_delay(seed: int) -> int:
    """How many outputs of a random network were looked at."""
    found = compiled(seed, "reference")
    if found is None:
        return 0
    artifact, model, frames = found
    operators = {node.op_type for node in model.graph.node}  # type: ignore[attr-defined]
    # Of a mirrored beginning only the first rows wait; see tests/stream/test_paddings.py.
    if not operators <= _SMOOTH or _has_walk(model):
        return 0
    x = recording(model, frames, seed)  # type: ignore[arg-type]
    whole = replay(artifact, x, seed)
    checked = 0
    for spec in artifact.signature.outputs:
        row = len(whole[spec.name]) // 2
        at = row * spec.stride + spec.delay
        if spec.time_axis is None or not 0 < at < frames or not spec.delay:
            continue
        # A cell begins with the first frame also where elements were known before (padding).
        waits = spec.stride * (1 + _padding(model)) if operators & _CARRYING else 1
        assert any(
            _needs(artifact, x, at - wait, (spec.name, row), seed) for wait in range(min(waits, at))
        ), (seed, spec)
        checked += 1
    return checked


def _padding(model: Any) -> int:
    """Elements that all layers together put in front of their inputs."""
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    count = 0
    for node in model.graph.node:
        if node.op_type == "Pad":
            count += int(stored[node.input[1]][2])
        elif node.op_type == "Concat" and node.input[0] in stored:
            count += stored[node.input[0]].shape[2]
        else:
            count += sum(a.ints[0] for a in node.attribute if a.name == "pads")
    return count


def _has_walk(model: Any) -> bool:
    """Whether frames are repeated or mirrored at the ends."""
    return any(
        attribute.s in (b"edge", b"reflect")
        for node in model.graph.node
        if node.op_type == "Pad"
        for attribute in node.attribute
    )


def _needs(artifact: Artifact, x: Any, place: int, key: tuple[str, int], seed: int) -> bool:
    """Whether a row is another one where a frame is, or where the recording ends before that."""
    name, row = key
    moved = x.copy()
    moved[:, :, place] += 10.0
    kept = replay(artifact, x, seed)[name][row]
    if not np.array_equal(replay(artifact, moved, seed)[name][row], kept):
        return True
    cut = replay(artifact, x[:, :, :place], seed)[name]
    return len(cut) <= row or not np.array_equal(cut[row], kept)


_CARRYING = frozenset(("LSTM", "GRU", "RNN", "CumSum"))

_SMOOTH = frozenset(
    (
        *("Conv", "AveragePool", "Pad", "Tanh", "Sigmoid", "Add", "Mul", "Concat"),
        *("LSTM", "GRU", "RNN", "Transpose", "Squeeze", "CumSum"),
    )
)
"""Operators in which every weight counts, whatever the input."""
