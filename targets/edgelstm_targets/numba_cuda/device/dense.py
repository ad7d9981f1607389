"""The role of a dense layer: every block of a team computes all of it, the first one writes it."""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.ops import IntegerDense
from edgelstm_targets.numba_cuda.device.activations import identity, make_function
from edgelstm_targets.numba_cuda.device.elements import STORE_SHARED_IF, make_element
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    div,
    inline,
    mul,
    shift_right,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.product import make_product
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.device.rounding import (
    look_up,
    look_up_unit,
    make_clamp,
    saturate16,
)
from edgelstm_targets.numba_cuda.device.tables import make_table_load, table_address
from edgelstm_targets.numba_cuda.pipeline import DenseRole
from edgelstm_targets.numba_cuda.places import Placement, RolePlace, RoleThreads
from edgelstm_targets.numba_cuda.precision import Integer


def make_dense(placement: Placement, place: RolePlace) -> RoleCode:
    """The code of a dense layer."""
    role = place.role
    assert isinstance(role, DenseRole)
    product = make_product(place, place.phases[0], place.words)
    load, total = product.load, product.total
    function = _make_function(role, place)
    ring = placement.rings[role.target]
    at, store = make_element(ring), STORE_SHARED_IF[ring.dtype]
    write = make_output(role.outputs, ring.dtype)
    units, lanes, tile, passes = role.kernel.units, place.lanes, place.tile, place.passes
    load_tables = make_table_load(place)

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load(w, t, U32(0), base, weights)
        load_tables(t, base, weights)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(turn, U32(tile)), row)
            z = total(w, t, lane, U32(0), turn, unit, base, weights, frame)
            value = function(z, base)
            mine = (lane == U32(0)) & (unit < U32(units))
            store(at(base, frame, unit), value, U32(mine))
            write(y, unit, value, U32(mine & (rank == U32(0))))

    @inline
    def finish(t, rank, base, state, frames):
        pass

    return RoleCode(max(product.words, 1), prepare, step, finish)


def _make_function(role: DenseRole, place: RolePlace) -> Any:
    """function(sum, base): what the layer gives."""
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerDense)
        return make_integer_function(role.precision.op, place)
    activation = role.kernel.activation
    activate = identity if activation is None else make_function(activation, role.origin)

    @inline
    def function(z, base):
        return activate(z)

    return function


def make_integer_function(op: IntegerDense, place: RoleThreads) -> Any:
    """clamp(z >> sum_shift), or a table's function of it."""
    clamp, final = make_clamp(op.low, op.high), op.sum_shift
    if place.tables is None:

        @inline
        def bounded(z, base):
            return clamp(shift_right(z, U32(final)))

        return bounded
    table, function = table_address(place, 0), look_up_unit if op.is_unit else look_up

    @inline
    def looked_up(z, base):
        return clamp(function(add(base, U32(table)), saturate16(shift_right(z, U32(final)))))

    return looked_up
