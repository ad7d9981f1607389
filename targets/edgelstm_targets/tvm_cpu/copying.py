"""Copying and clearing memory, without a call of memcpy or memset."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_LANES = 16
_UNROLLED = 8
_ELEMENTS = 4


def copy_elements(
    source: Buffer,
    source_start: Expr,
    target: Buffer,
    target_start: Expr,
    count: int,
    *,
    singly: bool = False,
) -> None:
    """Copy elements; nothing beyond the last one is touched.

    Args:
        source: where they are taken from.
        source_start: the first of them.
        target: where they are written.
        target_start: the first place there.
        count: how many.
        singly: one by one, for processors without vectors.
    """
    if singly:
        _copy_singly(source, source_start, target, target_start, count)
        return

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


def fill_zero(target: Buffer, start: Expr, count: int, *, singly: bool = False) -> None:
    """Clear elements."""
    dtype = str(target.dtype)
    whole = 0 if singly else count // _LANES
    if whole:
        with tir.loop(whole) as i:
            zero = tir.constant(0, _LANES, dtype)
            tir.store_vector(target, start + i * _LANES, zero, _LANES)
    _single(whole, count, lambda i: tir.store(target, start + i, tir.constant(0, 1, dtype)))


def _copy_singly(
    source: Buffer, source_start: Expr, target: Buffer, target_start: Expr, count: int
) -> None:
    # Not one at a time: of such a loop LLVM makes a call of memcpy.
    whole = count // _ELEMENTS if count > _ELEMENTS else 0

    def move(at: Expr, elements: int) -> None:
        values = [tir.name(source[source_start + (at + i)]) for i in range(elements)]
        for i, value in enumerate(values):
            tir.store(target, target_start + (at + i), value)

    if whole:
        with tir.loop(whole) as n:
            move(n * _ELEMENTS, _ELEMENTS)
    move(tir.integer(whole * _ELEMENTS), count - whole * _ELEMENTS)


def _single(whole: int, count: int, write: Callable[[Expr], None]) -> None:
    rest = count - whole * _LANES
    if rest:
        with tir.loop(rest) as i:
            write(whole * _LANES + i)


def copy_function(name: str, size: int, *, singly: bool = False) -> Function:
    """The function that copies `size` bytes; its parameters are source and target."""
    # Whole numbers: programs of integers must not touch floating-point registers.
    dtype, count = ("int32", size // 4) if size % 4 == 0 else ("uint8", size)

    def body(source: Buffer, target: Buffer) -> None:
        start = tir.integer(0)
        copy_elements(source, start, target, start, count, singly=singly)

    return tir.define(name, [Parameter("source", dtype), Parameter("target", dtype)], body)


def in_vectors(count: int, lanes: int, write: Callable[[Expr, int], None]) -> None:
    """Elements vector by vector; the last one lies over the one before where they do not divide.

    Args:
        count: of elements.
        lanes: of the widest vectors.
        write: writes the vector at an element: receives it, and how many lanes.
    """
    if not count:
        return
    lanes = fitting_lanes(count, lanes)
    vectors = -(-count // lanes)
    # Two vectors at a time, as above.
    pairs = vectors // 2 if vectors > _UNROLLED else 0
    if pairs:
        with tir.loop(pairs) as i:
            for step in range(2):
                write(tir.name(bounded(i * 2 + step, lanes, count)), lanes)
    for k in range(2 * pairs, vectors):
        write(tir.integer(min(k * lanes, count - lanes)), lanes)


def fitting_lanes(count: int, lanes: int) -> int:
    """The most lanes up to `lanes` that so many elements fill."""
    while lanes > count:
        lanes //= 2
    return lanes


def bounded(number: Expr, each: int, extent: int) -> Expr:
    """Where a piece begins; the last one lies over the one before where `each` does not divide."""
    start = number * each
    return start if extent % each == 0 else tirx.min(start, tir.integer(extent - each))
