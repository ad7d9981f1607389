"""The signature: frames without time, places in the blocks, names for C."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.signature import Signature
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.graph import StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.types import Constant
from edgelstm_compiler.lowering.signature import c_identifier, make_signature
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.graphs import GraphBuilder

SIZE = st.integers(1, 9)


def lstm(batch: int) -> GraphBuilder:
    """X (4, batch, 3) -> y, y_h, y_c of 5 units."""
    b = GraphBuilder()
    b.cell(LSTM, b.input("x", 4, batch, 3), 5)
    return b


def test_a_frame_has_neither_time_nor_a_batch_of_one() -> None:
    """Features last; the model's own shape for one frame stands beside it."""
    b = lstm(1)
    signature = make_signature(to_steps(b.graph(y=b.nodes[0].outputs[0])))
    (x,), (y,) = signature.inputs, signature.outputs
    assert (x.shape, x.model_shape, x.time_axis) == ((3,), (1, 1, 3), 0)
    assert (y.shape, y.model_shape, y.time_axis) == ((1, 5), (1, 1, 1, 5), 0)


def test_a_larger_batch_stays() -> None:
    """Several streams step together."""
    b = lstm(2)
    signature = make_signature(to_steps(b.graph(h=b.nodes[0].outputs[1])))
    assert signature.inputs[0].shape == (2, 3)
    assert signature.outputs[0].shape == (1, 2, 5)
    assert signature.outputs[0].time_axis is None


def test_a_call_has_the_shapes_of_the_model() -> None:
    """Time and batch included; no states."""
    b = lstm(1)
    signature = make_signature(whole_call(b.graph(y=b.nodes[0].outputs[0])))
    assert signature.mode == "call"
    assert signature.inputs[0].shape == signature.inputs[0].model_shape == (4, 1, 3)
    assert signature.states == ()


def test_states_are_aligned() -> None:
    """To 64 bytes each."""
    b = lstm(1)
    states = make_signature(to_steps(b.graph(y=b.nodes[0].outputs[0]))).states
    assert [(s.name, s.shape, s.offset_bytes) for s in states] == [
        ("lstm0.h", (1, 1, 5), 0),
        ("lstm0.c", (1, 1, 5), 64),
    ]


def test_timing_of_outputs_is_kept() -> None:
    """Stride, delay and warm-up go through; so does the rate."""
    value = GraphBuilder().input("x", 2)
    output = StepOutput("y", value, None, None, 2, 3, 4)
    graph = StepGraph("g", "stream", (StepInput(value),), (output,), (), ())
    signature = make_signature(graph, 50.0)
    (spec,) = signature.outputs
    assert (spec.stride, spec.delay, spec.warm_up) == (2, 3, 4)
    assert signature.rate_hz == 50.0


@given(
    st.lists(
        st.tuples(st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_]), SIZE),
        min_size=1,
        max_size=6,
    )
)
def test_values_of_mixed_types_are_aligned_to_their_elements(
    items: list[tuple[type, int]],
) -> None:
    """They do not overlap, and the block is a whole number of the widest element."""
    values = [
        Constant.of(f"x{index}", np.zeros(size, dtype)).value
        for index, (dtype, size) in enumerate(items)
    ]
    graph = StepGraph("g", "call", tuple(map(StepInput, values)), (), (), ())
    signature = make_signature(graph)
    end = 0
    for spec in signature.inputs:
        assert spec.offset_bytes >= end
        assert spec.offset_bytes % spec.dtype.itemsize == 0
        end = spec.offset_bytes + spec.nbytes
    assert signature.input_bytes >= end
    assert all(signature.input_bytes % spec.dtype.itemsize == 0 for spec in signature.inputs)
    assert signature.output_bytes == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model", "model"),
        ("my model-2", "my_model_2"),
        ("2nd", "m_2nd"),
        ("__x__", "x"),
        ("", "model"),
        ("é", "model"),
        ("torch::jit", "torch_jit"),
        ("a\n", "a"),
    ],
)
def test_names_become_identifiers(name: str, expected: str) -> None:
    """What C does not allow is replaced."""
    assert c_identifier(name) == expected


@given(st.text())
def test_every_name_becomes_an_identifier(name: str) -> None:
    """Whatever exporters write."""
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", c_identifier(name))


def test_a_signature_comes_back_from_json() -> None:
    """As manifests hold it."""
    b = lstm(2)
    signature = make_signature(to_steps(b.graph(y=b.nodes[0].outputs[0])))
    assert Signature.from_json(signature.to_json()) == signature
