"""All columns through one block of weights, tile by tile."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.tile import Tile
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


def write_tiles(
    tile: Tile,
    count: Expr,
    weights: Buffer,
    block: Expr,
    shift: Expr,
    finish: Callable[[Expr, Buffer, Expr], None],
) -> None:
    """All columns through one block of weights.

    Args:
        tile: sums of several columns.
        count: of columns.
        weights: the packed weights.
        block: element at which the block begins.
        shift: units from the block's first to those of the tile.
        finish: writes what becomes of the sums of a column: receives the column, the sums of its
            tile and its place there.
    """
    most = tile.sizes[0]
    held = tir.local(most * tile.held_elements, tile.held_type)
    with tir.loop(tirx.truncdiv(count + (most - 1), most)) as i:
        first = tir.name(i * most)
        left = tir.name(count - first)
        for size, smaller in zip(tile.sizes, (*tile.sizes[1:], 0), strict=True):
            condition = left > smaller
            if size < most:
                condition = tirx.all(condition, left <= size)
            with tir.when(condition):
                # What pads a tile is computed again, and not used.
                columns = [tir.name(tirx.min(first + j, count - 1)) for j in range(size)]
                tile.write(weights, block, shift, columns, held)
        with tir.loop(tirx.min(tir.integer(most), left)) as j:
            finish(tir.name(first + j), held, j)
