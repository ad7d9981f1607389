"""The sum over the lanes of a unit."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    inline,
    shuffle_xor,
    shuffle_xor_word,
)


@inline
def plus(a, b):
    """The sum of two numbers in floating point."""
    return a + b


def make_reduction(accumulators: int, lanes: int, is_whole: bool = False) -> Any:
    """reduce(acc, lane): the sum over a unit's lanes of the accumulator that this lane is given.

    With four accumulators lanes 0, 1, 2, 3 (and again 4, 5, ...) are given 0, 2, 1, 3; with two,
    0 and 1 in turn; a single one is given to all. Halving the accumulators while the lanes meet
    takes 3 exchanges where summing each alone takes 8.
    """
    combine, exchange = (add, shuffle_xor_word) if is_whole else (plus, shuffle_xor)
    if accumulators in (3, 4):
        return _reduce_four(lanes, combine, exchange)
    if accumulators == 2:
        return _reduce_two(lanes, combine, exchange)
    return _reduce_one(lanes, 1, combine, exchange)


def _reduce_one(lanes: int, first: int, combine: Any, exchange: Any) -> Any:
    """Plain sum over lanes that differ in the bits from `first` on."""
    if first >= lanes:

        @inline
        def keep(acc, lane):
            return acc[0]

        return keep
    rounds = (lanes // first).bit_length() - 1

    @inline
    def reduce(acc, lane):
        z = acc[0]
        for k in range(rounds):
            z = combine(z, exchange(z, U32(first << k)))
        return z

    return reduce


def _reduce_two(lanes: int, combine: Any, exchange: Any) -> Any:
    rest = _reduce_one(lanes, 2, combine, exchange)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        mine = cuda.selp(odd, acc[1], acc[0])
        other = cuda.selp(odd, acc[0], acc[1])
        acc[0] = combine(mine, exchange(other, U32(1)))
        return rest(acc, lane)

    return reduce


def _reduce_four(lanes: int, combine: Any, exchange: Any) -> Any:
    rest = _reduce_one(lanes, 4, combine, exchange)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        high = band(lane, U32(2)) != U32(0)
        a = cuda.selp(odd, acc[2], acc[0])
        b = cuda.selp(odd, acc[3], acc[1])
        a = combine(a, exchange(cuda.selp(odd, acc[0], acc[2]), U32(1)))
        b = combine(b, exchange(cuda.selp(odd, acc[1], acc[3]), U32(1)))
        mine = cuda.selp(high, b, a)
        other = cuda.selp(high, a, b)
        acc[0] = combine(mine, exchange(other, U32(2)))
        return rest(acc, lane)

    return reduce
