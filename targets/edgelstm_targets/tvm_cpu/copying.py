"""Copying and clearing memory, without a call of memcpy or memset."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_LANES = 16
_UNROLLED = 8


def copy_elements(
    source: Buffer, source_start: Expr, target: Buffer, target_start: Expr, count: int
) -> None:
    """Copy elements; nothing beyond the last one is touched."""

    def move(at: Expr | int) -> None:
        value = tir.load_vector(source, source_start + at, _LANES)
        tir.store_vector(target, target_start + at, value, _LANES)

    whole = count // _LANES
    # Two vectors at a time: a loop over single ones LLVM would turn into a call of memcpy.
    pairs = whole // 2 if whole > _UNROLLED else 0
    if pairs:
        with tir.loop(pairs) as i:
            move(i * (2 * _LANES))
            move(i * (2 * _LANES) + _LANES)
    for i in range(2 * pairs, whole):
        move(i * _LANES)
    _single(whole, count, lambda i: tir.store(target, target_start + i, source[source_start + i]))


def fill_zero(target: Buffer, start: Expr, count: int) -> None:
    """Clear elements."""
    dtype = str(target.dtype)
    whole = count // _LANES
    if whole:
        with tir.loop(whole) as i:
            zero = tir.constant(0, _LANES, dtype)
            tir.store_vector(target, start + i * _LANES, zero, _LANES)
    _single(whole, count, lambda i: tir.store(target, start + i, tir.constant(0, 1, dtype)))


def _single(whole: int, count: int, write: Callable[[Expr], None]) -> None:
    rest = count - whole * _LANES
    if rest:
        with tir.loop(rest) as i:
            write(whole * _LANES + i)


def copy_function(name: str, size: int) -> Function:
    """The function that copies `size` bytes; its parameters are source and target."""
    dtype, count = ("float32", size // 4) if size % 4 == 0 else ("uint8", size)

    def body(source: Buffer, target: Buffer) -> None:
        start = tir.integer(0)
        copy_elements(source, start, target, start, count)

    return tir.define(name, [Parameter("source", dtype), Parameter("target", dtype)], body)
