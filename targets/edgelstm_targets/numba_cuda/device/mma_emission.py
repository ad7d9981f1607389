"""What a lane makes of its sums goes to the vectors that read it and to the output blocks."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.intrinsics import F32, U32, U64, add, add64, inline, mul
from edgelstm_targets.numba_cuda.device.mma_outputs import make_pair_output
from edgelstm_targets.numba_cuda.device.mma_puts import make_pair_put
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes
from edgelstm_targets.numba_cuda.mma_image import TILE_UNITS
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement
from edgelstm_targets.numba_cuda.pipeline import Vector


def make_emission(
    placement: GroupPlacement,
    vector: Vector,
    outputs: tuple[int, ...],
    tiles: int,
    sizes: BlockSizes,
) -> Any:
    """emit(y, live, base, frame, group, unit, j, v0, v1, v2, v3): a lane's values of row j.

    Args:
        placement: what stands where.
        vector: what they belong to.
        outputs: where it is wanted, too.
        tiles: of 8 units, with those that overhang.
        sizes: of a stream's blocks.
    """
    extent, dtype, output_bytes = vector.extent, vector.dtype, sizes.outputs
    put = make_pair_put(placement, vector)
    write = make_pair_output(outputs, dtype, extent, tiles * TILE_UNITS, output_bytes)
    keep_within = make_limit(extent, tiles, dtype)

    @inline
    def emit(y, live, base, frame, group, unit, j, v0, v1, v2, v3):
        v0, v1 = keep_within(unit, v0, v1)
        v2, v3 = keep_within(unit, v2, v3)
        put(base, frame, group, j, unit, v0, v1, v2, v3)
        stream = add(group, mul(j, U32(ROWS)))
        block = add64(y, U64(stream) * U64(output_bytes))
        bits = live >> mul(j, U32(2))
        write(block, unit, v0, v1, U32(bits & U32(1)))
        write(add64(block, U64(8 * output_bytes)), unit, v2, v3, U32((bits & U32(2)) != U32(0)))

    return emit


def make_limit(extent: int, tiles: int, dtype: DType) -> Any:
    """keep(unit, low, high): zeros for units that overhang; theirs may be anything."""
    if extent == tiles * TILE_UNITS:

        @inline
        def keep_all(unit, low, high):
            return low, high

        return keep_all
    kind = F32 if dtype is DType.F32 else U32

    @inline
    def keep(unit, low, high):
        low = cuda.selp(unit < U32(extent), low, kind(0))
        return low, cuda.selp(add(unit, U32(1)) < U32(extent), high, kind(0))

    return keep
