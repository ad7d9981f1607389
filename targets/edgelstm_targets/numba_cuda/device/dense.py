"""The role of a dense layer: every block of a team computes all of it, the first one writes it."""

from __future__ import annotations

from numba import cuda

from edgelstm_targets.numba_cuda.device.activations import identity, make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    div,
    inline,
    load_global,
    mul,
    store_shared_if,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.product import make_product, make_reduction, make_slot
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.pipeline import DenseRole
from edgelstm_targets.numba_cuda.placement import Placement, RolePlace


def make_dense(placement: Placement, place: RolePlace) -> RoleCode:
    """The code of a dense layer."""
    role = place.role
    assert isinstance(role, DenseRole)
    load, total = make_product(place, place.phases[0])
    reduce = make_reduction(1, place.lanes)
    activation = role.kernel.activation
    function = identity if activation is None else make_function(activation, role.origin)
    slot, write = make_slot(placement.rings[role.target]), make_output(role.outputs)
    units, bias = role.kernel.units, place.phases[0].bias
    lanes, tile, passes = place.lanes, place.tile, place.passes

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load(w, t, U32(0), base, weights)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(turn, U32(tile)), row)
            acc = cuda.local.array(4, F32)
            acc[0] = F32(0)
            total(acc, w, t, U32(0), turn, base, weights, frame)
            z = reduce(acc, lane)
            # The image holds a bias for units that overhang, too.
            value = function(z + load_global(add64(weights, U64(bias) + U64(unit) * U64(4))))
            mine = (lane == U32(0)) & (unit < U32(units))
            store_shared_if(add(slot(base, frame), mul(unit, U32(4))), value, U32(mine))
            write(y, unit, value, U32(mine & (rank == U32(0))))

    @inline
    def finish(t, rank, base, state, frames):
        pass

    return RoleCode(max(place.words, 1), prepare, step, finish)
