"""The role of a dense layer for a group of streams; its warps share tiles and rows of streams."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.ops import IntegerDense
from edgelstm_targets.numba_cuda.device.activations import identity
from edgelstm_targets.numba_cuda.device.dense import make_integer_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    div,
    inline,
    mul,
    rem,
    uniform,
)
from edgelstm_targets.numba_cuda.device.mma_cells import functions_of
from edgelstm_targets.numba_cuda.device.mma_emission import make_emission
from edgelstm_targets.numba_cuda.device.mma_product import ROW_STEP
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode, nothing_to_finish
from edgelstm_targets.numba_cuda.device.mma_sums import make_sums, number_of
from edgelstm_targets.numba_cuda.device.tables import make_table_load
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import DenseRole
from edgelstm_targets.numba_cuda.precision import Integer


def make_group_dense(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> GroupCode:
    """The code of a dense layer."""
    role = place.role
    assert isinstance(role, DenseRole)
    load, total = make_sums(place, place.phases[0])
    load_tables, function, kind = (
        make_table_load(place),
        _make_function(role, place),
        number_of(place),
    )
    emit = make_emission(placement, role.target, role.outputs, place.tiles, sizes)
    rows, passes, warps = placement.group // ROWS, place.passes, place.threads // 32
    items = place.tiles * rows

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load(w, t, base, weights)
        load_tables(t, base, weights)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        lane, warp = band(t, U32(31)), uniform(div(t, U32(32)))
        group, member = div(lane, U32(4)), band(lane, U32(3))
        for p in range(passes):
            item = add(warp, U32(p * warps))
            if item < U32(items):
                tile, j = div(item, U32(rows)), rem(item, U32(rows))
                unit = add(mul(tile, U32(8)), mul(member, U32(2)))
                row = add(group, mul(j, U32(ROW_STEP)))
                acc = cuda.local.array(4, kind)
                total(acc, w, lane, tile, row, base, weights, frame)
                v0, v1, v2, v3 = acc[0], acc[1], acc[2], acc[3]
                emit(
                    y,
                    live,
                    base,
                    frame,
                    group,
                    unit,
                    j,
                    function(v0, base),
                    function(v1, base),
                    function(v2, base),
                    function(v3, base),
                )

    return GroupCode(0, prepare, step, nothing_to_finish)


def _make_function(role: DenseRole, place: GroupRole) -> Any:
    """function(sum, base): what the layer gives."""
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerDense)
        return make_integer_function(role.precision.op, place)
    activation, activate = role.kernel.activation, identity
    if activation is not None:
        activate = functions_of(role.precision)(activation, role.origin)

    @inline
    def function(z, base):
        return activate(z)

    return function
