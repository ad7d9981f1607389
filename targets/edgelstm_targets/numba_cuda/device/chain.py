"""Chains of element-wise operations on one element, in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_targets.numba_cuda.device.activations import make_clip_between, make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U64,
    add64,
    inline,
    load_global,
    multiply,
    round_even,
)
from edgelstm_targets.numba_cuda.pipeline import (
    Change,
    ElementwiseRole,
    Rounding,
    Vector,
)


def make_chain(
    role: ElementwiseRole, constants: Mapping[int, int], make_vector: Callable[[Vector], Any]
) -> Any:
    """apply(value, element, base, weights, frame, stream): all changes, one after another.

    Args:
        role: with the changes.
        constants: where constants stand in the image, by offset in the blob.
        make_vector: gives read(element, base, weights, frame, stream) of another vector.
    """
    chain = _keep
    for change in role.changes:
        operand = None
        if isinstance(change.operand, Vector):
            operand = make_vector(change.operand)
        elif change.operand is not None:
            operand = _make_constant(constants[change.operand.offset_bytes], change.operand.extent)
        chain = _then(chain, _make_change(change, operand, role.origin))
    return chain


@inline
def _keep(value, element, base, weights, frame, stream):
    return value


def _then(first: Any, second: Any) -> Any:
    @inline
    def chain(value, element, base, weights, frame, stream):
        middle = first(value, element, base, weights, frame, stream)
        return second(middle, element, base, weights, frame, stream)

    return chain


def _make_change(change: Change, operand: Any, where: str) -> Any:
    if change.activation is not None:
        function = make_function(change.activation, where)

        @inline
        def call(value, element, base, weights, frame, stream):
            return function(value)

        return call
    if change.rounding is not None:
        return _make_rounding(change.rounding)
    if change.number:
        number = change.number

        @inline
        def plus_number(value, element, base, weights, frame, stream):
            return value + F32(number)

        return plus_number
    if operand is None or change.arithmetic is None:
        return _keep
    combine = _ARITHMETIC[change.arithmetic]
    if change.is_swapped:

        @inline
        def swapped(value, element, base, weights, frame, stream):
            return combine(operand(element, base, weights, frame, stream), value)

        return swapped

    @inline
    def plain(value, element, base, weights, frame, stream):
        return combine(value, operand(element, base, weights, frame, stream))

    return plain


def _make_rounding(rounding: Rounding) -> Any:
    """clamp(rint(value) + zero_point) within the type, still in floating point."""
    half = 1 << (8 * rounding.dtype.itemsize - 1)
    bound, zero_point = make_clip_between(-half, half - 1), rounding.zero_point

    @inline
    def rounded(value, element, base, weights, frame, stream):
        return bound(round_even(value) + F32(zero_point))

    return rounded


def _make_constant(image: int, extent: int) -> Any:
    step = 4 if extent > 1 else 0

    @inline
    def constant(element, base, weights, frame, stream):
        return load_global(add64(weights, U64(image) + U64(element) * U64(step)))

    return constant


@inline
def _add(a, b):
    return a + b


@inline
def _subtract(a, b):
    return a - b


@inline
def _multiply(a, b):
    # Rounded by itself: what is rounded to whole numbers next must not depend on fused sums.
    return multiply(a, b)


@inline
def _divide(a, b):
    return a / b


@inline
def _minimum(a, b):
    return min(a, b)


@inline
def _maximum(a, b):
    return max(a, b)


_ARITHMETIC = {
    Arithmetic.ADD: _add,
    Arithmetic.SUB: _subtract,
    Arithmetic.MUL: _multiply,
    Arithmetic.DIV: _divide,
    Arithmetic.MIN: _minimum,
    Arithmetic.MAX: _maximum,
}
