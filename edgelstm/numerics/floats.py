"""The nodes of a cell in floating point, in the element type of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.activations import activation_of
from edgelstm.numerics.cells import (
    Apply,
    Cell,
    Complement,
    Flush,
    Gate,
    GatedSum,
    Lerp,
    Matrix,
    MulAdd,
    Narrow,
    Peephole,
    PlannedSum,
    Scale,
)
from edgelstm.numerics.products import Weights, consecutive
from edgelstm.numerics.tape import FRAME, PARAMETERS, Function, Tape, columns

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class FloatParameters:
    """The weights of one direction, in float32 or in int8.

    Args:
        inputs, recurrent: W and R; None where nothing is multiplied with R.
        input_bias, recurrent_bias: (G*H,) each.
        peepholes: (rows, H), or None.
    """

    inputs: Weights
    recurrent: Weights | None
    input_bias: Array
    recurrent_bias: Array
    peepholes: Array | None

    def frames(self, x: Array) -> Array:
        """The products of all frames with W, and their bias: (T, B, G*H)."""
        return np.asarray(self.inputs.product(x) + self.input_bias)


@dataclass(frozen=True, slots=True)
class FloatNumerics:
    """One direction of a layer without its weights.

    Args:
        cell: what is computed.
        hidden: H.
        activations: the functions of this direction.
        clip: bound of what gates apply their function to, or None.
        dtype: of everything.
    """

    cell: Cell
    hidden: int
    activations: Sequence[Mapping[str, Any]]
    clip: float | None
    dtype: np.dtype[Any]

    @property
    def key(self) -> Any:
        """All but the cell."""
        functions = tuple(tuple(sorted(each.items())) for each in self.activations)
        return self.hidden, functions, self.clip, self.dtype

    def total(self, tape: Tape, total: PlannedSum, slots: dict[str, int]) -> int:
        """A sum; products with an operand are computed for all gates at once."""
        hidden, operand = self.hidden, total.joined
        if operand:
            product, _ = self._product(tape, operand, slots)
            whole = tape.share(operand, add, FRAME, product)
            return tape.add(columns(total.terms[0].gate * hidden, hidden), whole)
        parts = []
        for term in total.terms:
            part, first = FRAME, 0
            if term.matrix is Matrix.R:
                part, first = self._product(tape, term.operand, slots)
            parts.append(tape.add(columns(term.gate * hidden - first, hidden), part))
        return parts[0] if len(parts) < 2 else tape.add(add, *parts[:2])

    def _product(self, tape: Tape, operand: str, slots: dict[str, int]) -> tuple[int, int]:
        """What R gives for an operand, and the first of its rows.

        A state is multiplied with all rows, as if every gate read it: BLAS may sum up fewer rows
        in another order.
        """
        rows = None
        if operand not in self.cell.state_names:
            terms = [term for total in self.cell.sums for term in total.terms]
            gates = [term.gate for term in terms if term.operand == operand]
            rows = consecutive(gates, self.hidden)
        product = tape.share("R " + operand, _product_of(rows), PARAMETERS, slots[operand])
        return product, 0 if rows is None else rows.start

    def load(self, name: str) -> Function | None:
        """States are read as they are."""
        del name
        return None

    def store(self, name: str) -> Function | None:
        """New values are carried as they are."""
        del name
        return None

    def shown(self, h: Array) -> Array:
        """The first state as the layer's output."""
        return h

    def gate(self, tape: Tape, node: Gate, total: int) -> int:
        """The function of the sum within +-clip."""
        if self.clip is not None:
            bound = self.dtype.type(self.clip)
            total = tape.add(lambda value: np.clip(value, -bound, bound), total)
        return tape.add(self._function(node.function), total)

    def peephole(self, tape: Tape, node: Peephole, total: int, value: int) -> int:
        """The sum + p*v."""
        row = node.row
        return tape.add(lambda given, s, v: s + given.peepholes[row] * v, PARAMETERS, total, value)

    def gated_sum(self, tape: Tape, _: GatedSum, total: int, unit: int, inner: int) -> int:
        """The sum + u*inner."""
        return tape.add(lambda s, u, v: s + u * v, total, unit, inner)

    def complement(self, tape: Tape, _: Complement, unit: int) -> int:
        """1 - u."""
        one = self.dtype.type(1)
        return tape.add(lambda u: one - u, unit)

    def mul_add(self, tape: Tape, _: MulAdd, f: int, c: int, i: int, g: int) -> int:
        """f*c + i*g."""
        return tape.add(lambda f, c, i, g: f * c + i * g, f, c, i, g)

    def lerp(self, tape: Tape, _: Lerp, z: int, n: int, h: int) -> int:
        """(1 - z)*n + z*h."""
        one = self.dtype.type(1)
        return tape.add(lambda z, n, h: (one - z) * n + z * h, z, n, h)

    def scale(self, tape: Tape, _: Scale, unit: int, value: int) -> int:
        """u*v."""
        return tape.add(mul, unit, value)

    def apply(self, tape: Tape, node: Apply, value: int) -> int:
        """The function of the value; ONNX Runtime does not clip it either."""
        return tape.add(self._function(node.function), value)

    def flush(self, tape: Tape, _: Flush, value: int) -> int:
        """The value: NumPy has denormals."""
        del tape
        return value

    def narrow(self, tape: Tape, _: Narrow, value: int) -> int:
        """The value."""
        del tape
        return value

    def _function(self, number: int) -> Function:
        return activation_of(self.activations[number], self.dtype)


def _product_of(rows: slice | None) -> Function:
    if rows is None:
        return lambda parameters, value: (
            parameters.recurrent.product(value) + parameters.recurrent_bias
        )
    part = rows
    return lambda parameters, value: (
        parameters.recurrent.part(part).product(value) + parameters.recurrent_bias[part]
    )
