"""Which numbers an input may hold, where they are used as indices or lengths.

Each element of an integer value is followed back to the element of an input that it is, up to a
factor and a summand; what an index may be then says what that element may be. Numbers in floating
point may be such elements, too, once they are cast: many models have ids in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Cast,
    Gather,
    Int8Recurrent,
    IntegerRecurrent,
    Recurrent,
    Unary,
)
from edgelstm_compiler.ir.ops.recurrent import SEQUENCE_LENS
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.lowering.bounds.interval import type_range
from edgelstm_compiler.lowering.bounds.propagate import MOVEMENTS

Ranges = Mapping[Value, tuple[Array, Array]]
"""For an input the smallest and the largest value per element: int64, or the input's own floats."""

_NOWHERE = -1
_ANY = 1 << 64
"""Beyond every integer type: no restriction of a number in floating point."""


@dataclass(frozen=True, slots=True)
class IndexUse:
    """A value whose elements are used as indices or lengths.

    Args:
        node: what uses it.
        value: the integers.
        low: the smallest that is allowed.
        high: the largest.
        what: in words.
    """

    node: Node
    value: Value
    low: int
    high: int
    what: str


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where elements come from: factor * element + summand, `element` counted over all inputs."""

    element: Array
    factor: Array
    summand: Array

    def moved(self, move: Callable[[Array], Array]) -> _Origin:
        return _Origin(move(self.element), move(self.factor), move(self.summand))


def index_uses(graph: StepGraph) -> Iterator[IndexUse]:
    """Every use of integers as indices or lengths."""
    for node in graph.nodes:
        if isinstance(node.op, Gather):
            x, indices = node.inputs
            assert x is not None
            assert indices is not None
            extent = x.type.shape[node.op.axis]
            yield IndexUse(node, indices, -extent, extent - 1, "an index")
        elif isinstance(node.op, Recurrent | Int8Recurrent | IntegerRecurrent):
            lengths = node.inputs[SEQUENCE_LENS] if len(node.inputs) > SEQUENCE_LENS else None
            x = node.inputs[0]
            if lengths is not None and x is not None:
                yield IndexUse(node, lengths, 0, x.type.shape[0], "a number of frames")


def find_ranges(graph: StepGraph) -> Ranges:
    """The ranges of all inputs that are restricted."""
    inputs = [item.value for item in graph.inputs]
    uses = list(index_uses(graph))
    if not inputs or not uses:
        return {}
    starts = np.cumsum([0, *(value.type.size for value in inputs)])
    low, high = (np.zeros(starts[-1], object) for _ in range(2))
    for value, start in zip(inputs, starts, strict=False):
        span = slice(start, start + value.type.size)
        low[span], high[span] = _widest(value.type.dtype)
    origins = _origins(graph, inputs, starts)
    for use in uses:
        origin = origins.get(use.value)
        if origin is not None:
            _restrict(origin, use, low, high)
    found = {}
    for value, start in zip(inputs, starts, strict=False):
        span = slice(start, start + value.type.size)
        least, most = _widest(value.type.dtype)
        if (low[span] != least).any() or (high[span] != most).any():
            ends = _as_input(value.type.dtype, low[span], high[span])
            found[value] = (ends[0].reshape(value.type.shape), ends[1].reshape(value.type.shape))
    return found


def _widest(dtype: DType) -> tuple[int, int]:
    """The whole numbers that the type can be cast to an index from."""
    return (-_ANY, _ANY) if dtype.is_float else type_range(dtype)


def _as_input(dtype: DType, low: Array, high: Array) -> tuple[Array, Array]:
    """Ranges of whole numbers in the input's type: of floats all that are rounded to them."""
    if not dtype.is_float:
        return low.astype(np.int64), high.astype(np.int64)
    kind = dtype.numpy
    infinity = np.asarray(np.inf, kind)
    below = np.nextafter((low - 1).astype(kind), infinity)
    above = np.nextafter((high + 1).astype(kind), -infinity)
    top = np.asarray(dtype.largest, kind)
    least = np.where(low == -_ANY, -top, np.where(low <= 0, below, low.astype(kind)))
    most = np.where(high == _ANY, top, np.where(high >= 0, above, high.astype(kind)))
    return least, most


def _restrict(origin: _Origin, use: IndexUse, low: Array, high: Array) -> None:
    """What `low <= factor * x + summand <= high` says of x."""
    for element, factor, summand in zip(
        origin.element.reshape(-1).tolist(),
        origin.factor.reshape(-1).tolist(),
        origin.summand.reshape(-1).tolist(),
        strict=True,
    ):
        if element == _NOWHERE or factor == 0:
            continue
        ends = (use.low - summand, use.high - summand)
        if factor < 0:
            ends = (-ends[1], -ends[0])
        size = abs(factor)
        low[element] = max(low[element], -(-ends[0] // size))
        high[element] = min(high[element], ends[1] // size)


def _origins(graph: StepGraph, inputs: Sequence[Value], starts: Array) -> dict[Value, _Origin]:
    origins: dict[Value, _Origin] = {}
    for value, start in zip(inputs, starts, strict=False):
        element = np.arange(start, start + value.type.size).reshape(value.type.shape)
        origins[value] = _Origin(element, np.ones_like(element), np.zeros_like(element))
    constants = {constant.value: constant.data for constant in graph.constants}
    for node in graph.nodes:
        found = _followed(node, origins, constants)
        if found is not None:
            origins[node.outputs[0]] = found
    return origins


def _followed(
    node: Node, origins: Mapping[Value, _Origin], constants: Mapping[Value, Array]
) -> _Origin | None:
    """The origin of a node's output; None where it is another function of the inputs."""
    output = node.outputs[0].type
    if output.dtype.is_float and not isinstance(node.op, MOVEMENTS):
        return None
    given = [
        _constant(constants[value]) if value in constants else origins.get(value)
        for value in node.inputs
        if value is not None
    ]
    if any(item is None for item in given) or not any(value in origins for value in node.inputs):
        return None
    parts = [item for item in given if item is not None]
    match node.op:
        case Cast():
            return parts[0]
        case Unary() if node.op.activation.fn is Fn.NEG:
            return _Origin(parts[0].element, -parts[0].factor, -parts[0].summand)
        case Binary():
            return _combined(node.op.arithmetic, *parts)
    if not isinstance(node.op, MOVEMENTS):
        return None
    fields = op_fields(node.op)

    def move(name: str) -> Array:
        arrays = [getattr(part, name) for part in parts]
        return np.asarray(apply(node.op.kind, fields, arrays)[0])

    return _Origin(move("element"), move("factor"), move("summand"))


def _constant(data: Array) -> _Origin | None:
    if not np.issubdtype(data.dtype, np.integer):
        return None
    nowhere = np.full(data.shape, _NOWHERE)
    return _Origin(nowhere, np.zeros(data.shape, np.int64), data.astype(np.int64))


def _combined(arithmetic: Arithmetic, a: _Origin, b: _Origin) -> _Origin | None:
    """Sum or product of elements and constants."""
    parts = (a.element, a.factor, a.summand, b.element, b.factor, b.summand)
    ea, fa, sa, eb, fb, sb = np.broadcast_arrays(*parts)
    if ((ea != _NOWHERE) & (eb != _NOWHERE)).any():
        return None
    element = np.maximum(ea, eb)
    match arithmetic:
        case Arithmetic.ADD:
            return _Origin(element, fa + fb, sa + sb)
        case Arithmetic.SUB:
            return _Origin(element, fa - fb, sa - sb)
        case Arithmetic.MUL:
            # One of the two factors is zero: that of the constant.
            return _Origin(element, fa * sb + fb * sa, sa * sb)
    return None
