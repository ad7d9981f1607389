"""tanh and sigmoid for processors with fused multiply-add: a third fewer operations in a row.

2^n and 2^r - 1 with n + r = x * factor. A fused multiply-add leaves r as exact as the factor is, so
that one of them reduces the range; the bits of n come out of the sum that rounded it, and one shift
puts them where the exponent is. The series is summed in pairs (Estrin), which are independent.
"""

from __future__ import annotations

from edgelstm_targets.tvm_cpu.lane_arithmetic import LaneArithmetic
from edgelstm_targets.tvm_cpu.tensorir import Expr

TANH_BOUND, SIGMOID_BOUND = 9.1, 30.0
"""Beyond these the results are 1 to the last bit."""

_LOG2_E = 1.4426950408889634
# What the float32 next to log2 e lacks. Sigmoids near 1 are summed up in a cell state for long.
_LOG2_E_LOW = 1.9259629911266e-08
# 1.5 * 2^23 + 127: adding it leaves n + 127, which is the exponent's field, in the low bits.
_ROUNDING = 12582912.0 + 127.0
_MANTISSA_BITS = 23
# 2^r - 1 = r * (c0 + c1 r + ...) for |r| <= 1/2; own fit of least relative error by Lawson's
# iteration.
_SERIES = (
    6.931471880e-1,
    2.402264979e-1,
    5.550357305e-2,
    9.61823776e-3,
    1.33908043e-3,
    1.540351153e-4,
)


def tanh_parts(lanes: LaneArithmetic, x: Expr) -> tuple[Expr, Expr]:
    """Numerator e and denominator e + 2 of tanh x, e = exp(2x) - 1: no cancellation near 0."""
    bounded = lanes.name(lanes.clamp(x, -TANH_BOUND, TANH_BOUND))
    power, rest = _powers(lanes, bounded, 2 * _LOG2_E, None)
    one = lanes.number(1.0)
    low, high = lanes.name(power - one), lanes.name(power + one)
    return (
        lanes.name(lanes.mul_add(power, rest, low)),
        lanes.name(lanes.mul_add(power, rest, high)),
    )


def sigmoid_denominator(lanes: LaneArithmetic, x: Expr) -> Expr:
    """1 + exp(-x)."""
    bounded = lanes.name(lanes.clamp(x, -SIGMOID_BOUND, SIGMOID_BOUND))
    power, rest = _powers(lanes, bounded, -_LOG2_E, -_LOG2_E_LOW)
    one = lanes.name(power + lanes.number(1.0))
    return lanes.name(lanes.mul_add(power, rest, one))


def _powers(
    lanes: LaneArithmetic, x: Expr, factor: float, factor_low: float | None
) -> tuple[Expr, Expr]:
    """(2^n, 2^r - 1), n the integer nearest to x * factor, r the rest."""
    rounding, high = lanes.number(_ROUNDING), lanes.number(factor)
    shifted = lanes.name(lanes.mul_add(x, high, rounding))
    minus_n = lanes.name(rounding - shifted)
    r = lanes.name(lanes.fused(x, high, minus_n))
    if factor_low is not None:
        r = lanes.name(lanes.mul_add(x, lanes.number(factor_low), r))
    power = lanes.name(lanes.from_bits(lanes.bits(shifted) << lanes.integer(_MANTISSA_BITS)))
    c = [lanes.number(coefficient) for coefficient in _SERIES]
    square = lanes.name(r * r)
    top = lanes.mul_add(square, c[5], lanes.mul_add(r, c[4], c[3]))
    bottom = lanes.name(lanes.mul_add(r, c[2], c[1]))
    tail = lanes.name(lanes.mul_add(square, lanes.name(top), bottom))
    return power, lanes.name(lanes.mul_add(square, tail, lanes.name(r * c[0])))
