"""Element-wise functions as TensorIR expressions: no library call, no branch, a fixed error.

Bounds hold for all of float32 and are tested over all of it. NaN in gives NaN out: constants are
the first operand of min and max, which then return the second one if it is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_targets.tvm_cpu.fused_exponential import sigmoid_denominator, tanh_parts
from edgelstm_targets.tvm_cpu.lane_arithmetic import LaneArithmetic
from edgelstm_targets.tvm_cpu.tensorir import Expr

# Own fits of x P(x^2) / Q(x^2), P(0) = 1: least relative error by Lawson's iteration, then the
# neighbouring float32 coefficients with the smallest error over all float32 arguments.
_ERF_BOUND = 3.83
_ERF_P = (
    1.0,
    0.16592423617839813,
    0.04644714668393135,
    0.0032345405779778957,
    0.0002534468367230147,
    1.883466893559671e-06,
)
_ERF_Q = (
    0.8862270712852478,
    0.4424550235271454,
    0.10002704709768295,
    0.013059943914413452,
    0.0010113456519320607,
    3.449396535870619e-05,
)
# Source: Cephes expf and logf (Moshier).
_EXP = (0.5, 0.16666665459, 0.041665795894, 0.0083334519073, 0.0013981999507, 0.00019875691500)
_LOG = (
    0.33333331174,
    -0.24999993993,
    0.20000714765,
    -0.16668057665,
    0.14249322787,
    -0.12420140846,
    0.11676998740,
    -0.11514610310,
    0.070376836292,
)
_LN2_HIGH, _LN2_LOW, _LOG2_E = 0.693359375, -2.12194440e-4, 1.4426950408889634
_EXP_MIN, _EXP_MAX = -104.0, 88.72283935546875
_ROUNDING = 12582912.0  # 1.5 * 2^23: adding it leaves the rounded integer in the low bits
_ROUNDING_BITS = 0x4B400000
_SIGMOID_BOUND, _TANH_BOUND = 30.0, 18.2  # of x, and of 2x: 1 to the last bit beyond
_SQRT_HALF_BITS = 0x3F3504F3
_SMALLEST_NORMAL, _TWO_23 = 1.1754943508222875e-38, 8388608.0
_FLUSH_BELOW = 1e-25


@dataclass(frozen=True, slots=True)
class Fraction:
    """numerator / denominator, so that a product of several needs one division.

    Args:
        numerator: any value.
        denominator: a positive value below 2e13, or None for 1.
    """

    numerator: Expr
    denominator: Expr | None = None

    def __mul__(self, other: Fraction) -> Fraction:
        if self.denominator is None or other.denominator is None:
            denominator = other.denominator if self.denominator is None else self.denominator
        else:
            denominator = self.denominator * other.denominator
        return Fraction(self.numerator * other.numerator, denominator)

    @property
    def value(self) -> Expr:
        """The quotient."""
        return self.numerator if self.denominator is None else self.numerator / self.denominator


@dataclass(frozen=True, slots=True)
class Functions(LaneArithmetic):
    """Functions of float32 expressions."""

    def flush(self, x: Expr) -> Expr:
        """Zero where the magnitude is so small that the next steps would meet denormals."""
        return self._where_large(x, x)

    def flushed_quotient(self, x: Fraction) -> Expr:
        """`flush` of the value, which is divided while that is decided."""
        if x.denominator is None:
            return self.flush(x.numerator)
        return self.flush_by(x, x.value)

    def flush_by(self, size: Fraction, x: Expr) -> Expr:
        """X, or zero where a fraction of nearly its size says that it is too small."""
        is_small = self.magnitude(size.numerator) < size.denominator * self.number(_FLUSH_BELOW)
        return self.choose(is_small, self.number(0.0), x)

    def fraction_of_flushed(self, activation: Activation, x: Expr) -> Fraction:
        """As `fraction` of `flush(x)`; where f(0) = 0 takes long, no step of it waits for that."""
        if activation.fn not in (Fn.TANH, Fn.SCALED_TANH):
            return self.fraction(activation, self.flush(x))
        result = self.fraction(activation, x)
        return Fraction(self.name(self._where_large(x, result.numerator)), result.denominator)

    def _where_large(self, x: Expr, value: Expr) -> Expr:
        is_small = self.magnitude(x) < self.number(_FLUSH_BELOW)
        return self.choose(is_small, self.number(0.0), value)

    def sqrt(self, x: Expr) -> Expr:
        """The square root, correctly rounded; NaN below 0."""
        return tirx.call_llvm_pure_intrin(self.kind("float32"), "llvm.sqrt", x)

    def apply(self, activation: Activation, x: Expr) -> Expr:
        """The function's value."""
        return self.fraction(activation, x).value

    def fraction(self, activation: Activation, x: Expr) -> Fraction:
        """The function's value as a fraction."""
        x = self.name(x)
        a, b = activation.alpha, activation.beta
        match activation.fn:
            case Fn.TANH:
                return self.tanh(x)
            case Fn.SCALED_TANH:
                scaled = self.tanh(self.name(x * self.number(b)))
                return Fraction(scaled.numerator * self.number(a), scaled.denominator)
            case Fn.SIGMOID:
                return self.sigmoid(x)
            case Fn.SOFTSIGN:
                x = self.name(self.clamp(x, -1e30, 1e30))
                return Fraction(x / (self.number(1.0) + self.magnitude(x)))
            case Fn.ERF:
                return self.erf(x)
            case _:
                return Fraction(self._plain(activation.fn, a, b, x))

    def _plain(self, fn: Fn, a: float, b: float, x: Expr) -> Expr:
        zero, one, alpha, beta = (self.number(v) for v in (0.0, 1.0, a, b))
        match fn:
            case Fn.RELU:
                return tirx.max(zero, x)
            case Fn.AFFINE:
                return alpha * x + beta
            case Fn.LEAKY_RELU:
                return self.choose(x < zero, alpha * x, x)
            case Fn.THRESHOLDED_RELU:
                return self.choose(x <= alpha, zero, x)
            case Fn.HARD_SIGMOID:
                return self.clamp(alpha * x + beta, 0.0, 1.0)
            case Fn.ELU:
                return self.choose(x < zero, alpha * self.exp_minus_one(x), x)
            case Fn.SELU:
                return beta * self.choose(x < zero, alpha * self.exp_minus_one(x), x)
            case Fn.CELU:
                curve = alpha * self.exp_minus_one(self.name(x * self.number(1.0 / a)))
                return tirx.max(zero, x) + tirx.min(zero, curve)
            case Fn.SOFTPLUS:
                return tirx.max(zero, x) + self.log_one_plus(self.exp(zero - self.magnitude(x)))
            case Fn.HARD_SWISH:
                return x * self.clamp(x * self.number(1.0 / 6.0) + self.number(0.5), 0.0, 1.0)
            case Fn.CLIP:
                return self.clamp(x, a, b)
            case Fn.NEG:
                return x * self.number(-1.0)
            case Fn.ABS:
                return self.magnitude(x)
            case Fn.EXP:
                return self.exp(x)
            case Fn.LOG:
                return self.log(x)
            case Fn.SQRT:
                return self.sqrt(x)
            case Fn.RECIPROCAL:
                return one / x
            case Fn.SIGN:
                return self.choose(x > zero, one, self.choose(x < zero, self.number(-1.0), zero))
            case Fn.FLOOR:
                whole = self._truncated(x)
                return self._where_fraction(x, self.choose(whole > x, whole - one, whole))
            case Fn.CEIL:
                whole = self._truncated(x)
                return self._where_fraction(x, self.choose(whole < x, whole + one, whole))
            case Fn.ROUND:
                # A sum of 2^23 and more has no bits behind the point, and is rounded to even.
                shift = self.name(
                    self.choose(x < zero, self.number(-_TWO_23), self.number(_TWO_23))
                )
                return self._where_fraction(x, self.name(x + shift) - shift)
            case _:
                raise NotImplementedError(fn)

    def _truncated(self, x: Expr) -> Expr:
        """X without its fraction, where |x| < 2^23."""
        bounded = self._where_fraction(x, x, self.number(0.0))
        return self.name(
            tirx.Cast(self.kind("float32"), tirx.Cast(self.kind("int32"), self.name(bounded)))
        )

    def _where_fraction(self, x: Expr, value: Expr, other: Expr | None = None) -> Expr:
        """The value where x may have a fraction (|x| < 2^23), else the other one, or x."""
        is_small = self.magnitude(x) < self.number(_TWO_23)
        return self.choose(is_small, value, x if other is None else other)

    def tanh(self, x: Expr) -> Fraction:
        """The quotient e / (e + 2) with e = exp(2x) - 1; relative error below 4e-7, within [-1, 1].

        |e| <= e + 2 for every e >= -1, and rounding keeps it so: the quotient needs no bound. That
        of the argument keeps products of denominators finite.
        """
        if self.has_fma:
            return Fraction(*tanh_parts(self, x))
        twice = self.name(x * self.number(2.0))
        e = self.name(self._exp_minus_one(self.name(self.clamp(twice, -_TANH_BOUND, _TANH_BOUND))))
        return Fraction(e, self.name(e + self.number(2.0)))

    def sigmoid(self, x: Expr) -> Fraction:
        """1 / (1 + exp(-x)); relative error below 3e-7, within [0, 1].

        Not 1/2 + tanh(x/2)/2: the forget gate stands near 1 for long, and what its last bits are
        off is summed up in the cell state. The bound keeps products of denominators finite.
        """
        if self.has_fma:
            return Fraction(self.number(1.0), sigmoid_denominator(self, x))
        bounded = self.name(self.clamp(x, -_SIGMOID_BOUND, _SIGMOID_BOUND) * self.number(-1.0))
        shifted, rest = self._exp_parts(bounded)
        power = self._power_of_two(self.bits(shifted) - self.integer(_ROUNDING_BITS))
        exp = (rest + self.number(1.0)) * power
        return Fraction(self.number(1.0), self.name(exp + self.number(1.0)))

    def erf(self, x: Expr) -> Fraction:
        """Absolute error below 3e-7 (without FMA: 3.9e-7), within [-1, 1]."""
        return self._odd_rational(x, _ERF_BOUND, _ERF_P, _ERF_Q)

    def exp(self, x: Expr) -> Expr:
        """Relative error below 2e-7; 0 and infinity beyond the range of float32."""
        shifted, rest = self._exp_parts(self.name(self.clamp(x, _EXP_MIN, _EXP_MAX)))
        series = rest + self.number(1.0)
        # Two factors, because 2^128 and 2^-150 are no float32.
        power = self.name(self.bits(shifted) - self.integer(_ROUNDING_BITS))
        lower = self.name(power >> self.integer(1))
        result = self.name(series * self._power_of_two(lower))
        result = self.name(result * self._power_of_two(power - lower))
        infinity = self.number(float("inf"))
        return self.choose(self.number(_EXP_MAX) < x, infinity, result)

    def exp_minus_one(self, x: Expr) -> Expr:
        """exp(x) - 1 for x <= 0, without cancellation; relative error below 4e-7."""
        # Lanes with positive x are not used; the bound keeps them finite.
        return self._exp_minus_one(self.name(self.clamp(x, -_SIGMOID_BOUND, 0.0)))

    def _exp_minus_one(self, x: Expr) -> Expr:
        """2^n (exp(r) - 1) + (2^n - 1) for moderate x = n ln 2 + r: no cancellation near 0."""
        shifted, rest = self._exp_parts(x)
        exponent = self.bits(shifted) - self.integer(_ROUNDING_BITS)
        power = self.name(self._power_of_two(exponent))
        return power * rest + (power - self.number(1.0))

    def _exp_parts(self, x: Expr) -> tuple[Expr, Expr]:
        """(n + 1.5 * 2^23, exp(r) - 1), n the whole number nearest to x / ln 2, r = x - n ln 2."""
        shifted = self.name(x * self.number(_LOG2_E) + self.number(_ROUNDING))
        whole = self.name(shifted - self.number(_ROUNDING))
        r = x - whole * self.number(_LN2_HIGH)
        r = self.name(r - whole * self.number(_LN2_LOW))
        return shifted, self.name(self.polynomial(r, _EXP) * (r * r) + r)

    def log(self, x: Expr) -> Expr:
        """Relative error below 2e-7 (absolute near 1); -infinity at 0, NaN below."""
        tiny = x < self.number(_SMALLEST_NORMAL)  # TVM cannot name a vector of bool
        scaled = self.name(self.choose(tiny, x * self.number(_TWO_23), x))
        bits = self.name(self.bits(scaled))
        exponent = self.name((bits - self.integer(_SQRT_HALF_BITS)) >> self.integer(23))
        mantissa = self.from_bits(bits - (exponent << self.integer(23)))
        t = self.name(mantissa - self.number(1.0))
        e = tirx.Cast(self.kind("float32"), exponent)
        e = self.name(e - self.choose(tiny, self.number(23.0), self.number(0.0)))
        square = self.name(t * t)
        series = self.polynomial(t, _LOG) * (t * square) + e * self.number(_LN2_LOW)
        series = series - square * self.number(0.5)
        result = self.name(t + series + e * self.number(_LN2_HIGH))
        result = self.choose(x < self.number(float("inf")), result, x)
        result = self.choose(x <= self.number(0.0), self.number(float("-inf")), result)
        return self.choose(x < self.number(0.0), self.number(float("nan")), result)

    def log_one_plus(self, x: Expr) -> Expr:
        """log(1 + x) for 0 <= x <= 1, exact for small x.

        Source: Goldberg, "What every computer scientist should know", theorem 4.
        """
        x = self.name(x)
        one = self.number(1.0)
        total = self.name(one + x)
        rounded = self.name(total - one)
        nothing = rounded <= self.number(0.0)
        ratio = x / self.choose(nothing, one, rounded)
        return self.choose(nothing, x, self.log(total) * ratio)

    def _odd_rational(
        self, x: Expr, bound: float, p: Sequence[float], q: Sequence[float]
    ) -> Fraction:
        y = self.name(self.clamp(x, -bound, bound))
        square = self.name(y * y)
        denominator = self.name(self.polynomial(square, q))
        # y is added last and unrounded: the smallest rounding error of the ways to sum this up.
        numerator = self.name(self.polynomial(square, p[1:]) * (y * square) + y)
        # A quotient of clamped operands is clamped too: rounding is monotonic.
        low = self.number(0.0) - denominator
        return Fraction(self.name(tirx.max(low, tirx.min(denominator, numerator))), denominator)

    def _power_of_two(self, exponent: Expr) -> Expr:
        return self.from_bits((exponent + self.integer(127)) << self.integer(23))
