"""The role of a chain of element-wise operations, and of fetching the model's input."""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_targets.numba_cuda.device.activations import make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    inline,
    load_global,
    load_shared,
    mul,
    store_shared,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.product import make_slot
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.pipeline import Change, Constant, ElementwiseRole, Vector
from edgelstm_targets.numba_cuda.placement import Placement, RolePlace

_FETCHED_AHEAD = 8
"""Elements of the next frame that a thread holds; larger frames are fetched when they are due."""


def make_elementwise(placement: Placement, place: RolePlace) -> RoleCode:
    """The code of an element-wise role."""
    role = place.role
    assert isinstance(role, ElementwiseRole)
    extent, threads = role.target.extent, place.threads
    rounds = -(-extent // threads)
    apply = _make_chain(placement, role)
    slot, write = make_slot(placement.rings[role.target]), make_output(role.outputs)

    @inline
    def store(base, weights, y, rank, frame, element, value):
        value = apply(value, element, base, weights, frame)
        store_shared(add(slot(base, frame), mul(element, U32(4))), value)
        write(y, element, value, U32(rank == U32(0)))

    @inline
    def prepare_nothing(w, t, rank, base, weights, state, x):
        pass

    @inline
    def finish(t, rank, base, state, frames):
        pass

    if isinstance(role.source, Vector):
        source = make_slot(placement.rings[role.source])

        @inline
        def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = load_shared(add(source(base, frame), mul(element, U32(4))))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, step, finish)
    offset = role.source
    if rounds > _FETCHED_AHEAD:

        @inline
        def fetch_step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            here = add64(x, U64(frame) * x_step + U64(offset))
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = load_global(add64(here, U64(element) * U64(4)))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, fetch_step, finish)

    @inline
    def fetch(w, t, x):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                w[j] = load_global(add64(x, U64(offset) + U64(element) * U64(4)))

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
    if change.operand is None or change.arithmetic is None:
        return _keep
    operand = _make_operand(placement, change.operand)
    combine = _ARITHMETIC[change.arithmetic]
    if change.is_swapped:

        @inline
        def swapped(value, element, base, weights, frame):
            return combine(operand(element, base, weights, frame), value)

        return swapped

    @inline
    def plain(value, element, base, weights, frame):
        return combine(value, operand(element, base, weights, frame))

    return plain


def _make_operand(placement: Placement, operand: Constant | Vector) -> Any:
    if isinstance(operand, Vector):
        slot = make_slot(placement.rings[operand])

        @inline
        def vector(element, base, weights, frame):
            return load_shared(add(slot(base, frame), mul(element, U32(4))))

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
    return a * b


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
