"""Hypothesis strategies for the words of the IR: operators, types, and graphs that need not hold.

The text form knows nothing of laws, so these graphs are well-formed but mostly meaningless.
"""

from __future__ import annotations

import dataclasses
import types
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.fields import KINDS
from edgelstm_compiler.ir.graph import Graph, Output, State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Recurrent, Reshape, Unary
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value

NAMES = st.one_of(
    st.sampled_from(
        ["/lstm/LSTM_output_0", "a:0", "a::b", "a:", "-", "%x", "x y", "#", '"', "=", "é", ""]
    ),
    st.text(max_size=8),
    st.text(st.characters(codec="ascii"), max_size=8),
)
_NUMBERS = {
    bool: st.booleans(),
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=5),
}


def operators() -> st.SearchStrategy[Op]:
    """Every operator with any values in its fields."""
    return st.one_of([instances(kind) for kind in KINDS])


def instances(kind: type[Any]) -> st.SearchStrategy[Any]:
    """A dataclass with any values that its fields allow."""
    hints = get_type_hints(kind)
    fields = {field.name: _values(hints[field.name]) for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of(
            [st.none() if arg is type(None) else _values(arg) for arg in get_args(hint)]
        )
    if get_origin(hint) is tuple:
        return st.lists(_values(get_args(hint)[0]), max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if hint is Op:
        return st.one_of([instances(Reshape), instances(Unary)])
    if hint is Recurrent:
        return st.one_of([instances(cell) for cell in CELLS])
    if dataclasses.is_dataclass(hint):
        return instances(hint)  # type: ignore[arg-type]
    return _NUMBERS[hint]


def arrays() -> st.SearchStrategy[Array]:
    """Arrays of every element type, with infinities, NaN and the extremes of integers."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)

    def of(dtype: DType) -> st.SearchStrategy[Array]:
        if dtype is not DType.BF16:
            return hnp.arrays(dtype.numpy, shapes)
        # Hypothesis does not know the type: any bits are one of its numbers.
        return hnp.arrays(np.uint16, shapes).map(lambda bits: bits.view(dtype.numpy))

    return st.sampled_from(DType).flatmap(of)


def tensor_types() -> st.SearchStrategy[TensorType]:
    """Any element type and shape."""
    shapes = st.lists(st.integers(1, 1000), max_size=4).map(tuple)
    return st.builds(TensorType, st.sampled_from(DType), shapes)


@st.composite
def graphs(draw: st.DrawFn) -> Graph | StepGraph:
    """A graph of either stage: names unique, all else arbitrary."""
    names = iter(draw(st.lists(NAMES, min_size=24, max_size=24, unique=True)))
    values: list[Value] = []

    def new(tensor: TensorType) -> Value:
        values.append(Value(next(names), tensor))
        return values[-1]

    def some() -> Value:
        return draw(st.sampled_from(values))

    axes = st.none() | st.integers(0, 3)
    inputs = [new(draw(tensor_types())) for _ in range(draw(st.integers(1, 3)))]
    constants = []
    for data in draw(st.lists(arrays(), max_size=3)):
        constant = Constant.of(next(names), data)
        values.append(constant.value)
        constants.append(constant)
    inits = draw(st.lists(arrays(), max_size=2))
    reads = [new(TensorType.of(init)) for init in inits]
    nodes = []
    for op in draw(st.lists(operators(), max_size=3)):
        read = tuple(draw(st.none() | st.sampled_from(values)) for _ in range(draw(_COUNTS)))
        made = tuple(new(draw(tensor_types())) for _ in range(draw(st.integers(1, 2))))
        nodes.append(Node(op, read, made, draw(NAMES), draw(NAMES)))
    shown = [(draw(NAMES), some()) for _ in range(draw(_COUNTS))]
    name, states = draw(NAMES), draw(st.booleans())
    if not states:
        outputs = tuple(Output(*item) for item in shown)
        sources = (*inputs, *reads)
        return Graph(name, sources, outputs, tuple(nodes), tuple(constants))
    return StepGraph(
        name,
        draw(st.sampled_from(["stream", "call"])),
        tuple(StepInput(value, draw(axes), draw(axes)) for value in inputs),
        tuple(StepOutput(*item, draw(axes), draw(axes), *draw(_TIMING)) for item in shown),
        tuple(nodes),
        tuple(constants),
        tuple(
            State(draw(NAMES), read.type, _frozen(init), read, some())
            for init, read in zip(inits, reads, strict=True)
        ),
    )


_COUNTS = st.integers(0, 3)
_TIMING = st.tuples(st.integers(1, 99), st.integers(0, 99), st.integers(0, 10**6))


def _frozen(data: Array) -> Array:
    return Constant.of("", np.asarray(data)).data
