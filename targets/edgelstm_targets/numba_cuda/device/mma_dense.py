"""The role of a dense layer for a group of streams; its warps share tiles and rows of streams."""

from __future__ import annotations

from numba import cuda

from edgelstm_targets.numba_cuda.device.activations import identity
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    add,
    band,
    div,
    inline,
    mul,
    rem,
    uniform,
)
from edgelstm_targets.numba_cuda.device.mma_cells import make_quick_function
from edgelstm_targets.numba_cuda.device.mma_emission import make_emission
from edgelstm_targets.numba_cuda.device.mma_product import ROW_STEP, make_group_product
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode, nothing_to_finish
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import DenseRole


def make_group_dense(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> GroupCode:
    """The code of a dense layer."""
    role = place.role
    assert isinstance(role, DenseRole)
    load, total = make_group_product(place, place.phases[0])
    activation = role.kernel.activation
    function = identity if activation is None else make_quick_function(activation, role.origin)
    emit = make_emission(placement, role.target, role.outputs, place.tiles, sizes)
    rows, passes, warps = placement.group // ROWS, place.passes, place.threads // 32
    items = place.tiles * rows

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load(w, t, base, weights)

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
                acc = cuda.local.array(4, F32)
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
                    function(v0),
                    function(v1),
                    function(v2),
                    function(v3),
                )

    return GroupCode(0, prepare, step, nothing_to_finish)
