"""Lane by lane arithmetic on float32 vectors and their bits, as TensorIR expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu.tensorir import Expr, constant


@dataclass(frozen=True, slots=True)
class LaneArithmetic:
    """Operations that every function is made of.

    NaN in gives NaN out of `clamp`: constants are the first operand of min and max, which then
    return the second one if it is NaN.

    Args:
        lanes: of the expressions.
        name: computes an expression once, see `tensorir.name`.
        has_fma: the processor rounds a*b + c once (`InstructionSet.has_fma`).
    """

    lanes: int
    name: Callable[[Expr], Expr]
    has_fma: bool = False

    def number(self, value: float) -> Expr:
        """A constant."""
        return constant(value, self.lanes)

    def integer(self, value: int) -> Expr:
        """An int32 constant."""
        return constant(value, self.lanes, "int32")

    def clamp(self, x: Expr, low: float, high: float) -> Expr:
        """min(max(x, low), high)."""
        return tirx.min(self.number(high), tirx.max(self.number(low), x))

    def magnitude(self, x: Expr) -> Expr:
        """|x|."""
        return tirx.call_llvm_pure_intrin(self.kind("float32"), "llvm.fabs", x)

    def choose(self, condition: Expr, yes: Expr, no: Expr) -> Expr:
        """Lane by lane; both are computed."""
        return tirx.Select(condition, yes, no)

    def mul_add(self, a: Expr, b: Expr, c: Expr) -> Expr:
        """a*b + c, rounded once where that is as fast; plain sums LLVM fuses only if it likes."""
        return tirx.call_llvm_pure_intrin(self.kind("float32"), "llvm.fmuladd", a, b, c)

    def fused(self, a: Expr, b: Expr, c: Expr) -> Expr:
        """a*b + c, rounded once whatever it costs; a call of libm without `has_fma`."""
        return tirx.call_llvm_pure_intrin(self.kind("float32"), "llvm.fma", a, b, c)

    def polynomial(self, x: Expr, coefficients: Sequence[float]) -> Expr:
        """The sum of coefficients[k] * x^k, by Horner's rule."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = result * x + self.number(coefficient)
        return result

    def kind(self, dtype: str) -> str:
        """TVM's name of a vector of these lanes."""
        return dtype if self.lanes == 1 else f"{dtype}x{self.lanes}"

    def bits(self, x: Expr) -> Expr:
        """The bits of a float32 as int32."""
        return tirx.reinterpret(self.kind("int32"), x)

    def from_bits(self, bits: Expr) -> Expr:
        """The float32 of these bits."""
        return tirx.reinterpret(self.kind("float32"), bits)
