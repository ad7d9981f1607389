"""The role of a chain of element-wise operations, and of fetching the model's input."""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_targets.numba_cuda.device.activations import make_clip_between, make_function
from edgelstm_targets.numba_cuda.device.elements import (
    AS_FLOAT,
    FROM_FLOAT,
    LOAD_GLOBAL,
    LOAD_SHARED,
    STORE_SHARED,
    make_block_element,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    inline,
    load_global,
    load_shared,
    multiply,
    round_even,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.pipeline import (
    Change,
    Constant,
    ElementwiseRole,
    Rounding,
    Vector,
)
from edgelstm_targets.numba_cuda.places import Placement, RolePlace

_FETCHED_AHEAD = 8
"""Elements of the next frame that a thread holds; larger frames are fetched when they are due."""


def make_elementwise(placement: Placement, place: RolePlace) -> RoleCode:
    """The code of an element-wise role."""
    role = place.role
    assert isinstance(role, ElementwiseRole)
    extent, threads = role.target.extent, place.threads
    rounds = -(-extent // threads)
    apply = _make_chain(placement, role)
    dtype = role.target.dtype
    at, keep = make_element(placement.rings[role.target]), STORE_SHARED[dtype]
    write, as_element = make_output(role.outputs, dtype), FROM_FLOAT[dtype]
    as_float = AS_FLOAT[role.source_dtype]

    @inline
    def store(base, weights, y, rank, frame, element, value):
        made = as_element(apply(value, element, base, weights, frame))
        keep(at(base, frame, element), made)
        write(y, element, made, U32(rank == U32(0)))

    @inline
    def prepare_nothing(w, t, rank, base, weights, state, x):
        pass

    @inline
    def finish(t, rank, base, state, frames):
        pass

    if isinstance(role.source, Vector):
        source = make_element(placement.rings[role.source])
        fetch_element = LOAD_SHARED[role.source_dtype]

        @inline
        def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = as_float(fetch_element(source(base, frame, element)))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, step, finish)
    outside, read = (
        make_block_element(role.source, role.source_dtype),
        LOAD_GLOBAL[role.source_dtype],
    )
    if rounds > _FETCHED_AHEAD:

        @inline
        def fetch_step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            here = add64(x, U64(frame) * x_step)
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = as_float(read(outside(here, element)))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, fetch_step, finish)

    @inline
    def fetch(w, t, x):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                w[j] = as_float(read(outside(x, element)))

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        fetch(w, t, x)

    @inline
    def ahead_step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                store(base, weights, y, rank, frame, element, w[j])
        after = add(frame, U32(1))
        if after < frames:
            fetch(w, t, add64(x, U64(after) * x_step))

    return RoleCode(rounds, prepare, ahead_step, finish)


def _make_chain(placement: Placement, role: ElementwiseRole) -> Any:
    """apply(value, element, base, weights, frame): all changes, one after another."""
    chain = _keep
    for change in role.changes:
        chain = _then(chain, _make_change(placement, role, change))
    return chain


@inline
def _keep(value, element, base, weights, frame):
    return value


def _then(first: Any, second: Any) -> Any:
    @inline
    def chain(value, element, base, weights, frame):
        middle = first(value, element, base, weights, frame)
        return second(middle, element, base, weights, frame)

    return chain


def _make_change(placement: Placement, role: ElementwiseRole, change: Change) -> Any:
    if change.activation is not None:
        function = make_function(change.activation, role.origin)

        @inline
        def call(value, element, base, weights, frame):
            return function(value)

        return call
    if change.rounding is not None:
        return _make_rounding(change.rounding)
    if change.number:
        number = change.number

        @inline
        def plus_number(value, element, base, weights, frame):
            return value + F32(number)

        return plus_number
    if change.operand is None or change.arithmetic is None:
        return _keep
    operand = _make_operand(placement, change.operand)
    combine = ARITHMETIC[change.arithmetic]
    if change.is_swapped:

        @inline
        def swapped(value, element, base, weights, frame):
            return combine(operand(element, base, weights, frame), value)

        return swapped

    @inline
    def plain(value, element, base, weights, frame):
        return combine(value, operand(element, base, weights, frame))

    return plain


def _make_rounding(rounding: Rounding) -> Any:
    """clamp(rint(value) + zero_point) within the type, still in floating point."""
    half = 1 << (8 * rounding.dtype.itemsize - 1)
    bound, zero_point = make_clip_between(-half, half - 1), rounding.zero_point

    @inline
    def rounded(value, element, base, weights, frame):
        return bound(round_even(value) + F32(zero_point))

    return rounded


def _make_operand(placement: Placement, operand: Constant | Vector) -> Any:
    if isinstance(operand, Vector):
        at = make_element(placement.rings[operand])

        @inline
        def vector(element, base, weights, frame):
            return load_shared(at(base, frame, element))

        return vector
    image = placement.constants[operand.offset_bytes]
    step = 4 if operand.extent > 1 else 0

    @inline
    def constant(element, base, weights, frame):
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


ARITHMETIC = {
    Arithmetic.ADD: _add,
    Arithmetic.SUB: _subtract,
    Arithmetic.MUL: _multiply,
    Arithmetic.DIV: _divide,
    Arithmetic.MIN: _minimum,
    Arithmetic.MAX: _maximum,
}
