"""The nodes of a cell in floating point, in the element type of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.activations import activate
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

Array = NDArray[Any]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FloatNumerics:
    """One direction of a layer, its weights in float32 or in int8.

    Args:
        cell: what is computed.
        hidden: H.
        inputs, recurrent: W and R; None where nothing is multiplied with R.
        input_bias, recurrent_bias: (G*H,) each.
        peepholes: (rows, H), or None.
        activations: the functions of this direction.
        clip: bound of what gates apply their function to, or None.
    """

    cell: Cell
    hidden: int
    inputs: Weights
    recurrent: Weights | None
    input_bias: Array
    recurrent_bias: Array
    peepholes: Array | None
    activations: Sequence[Mapping[str, Any]]
    clip: float | None

    def frames(self, x: Array) -> Array:
        """The products of all frames with W, and their bias: (T, B, G*H)."""
        return np.asarray(self.inputs.product(x) + self.input_bias)

    def total(self, total: PlannedSum, frame: Array, values: Values, products: Values) -> Array:
        """A sum; products with an operand are computed for all gates at once."""
        hidden, operand = self.hidden, total.joined
        if operand:
            start = total.terms[0].gate * hidden
            whole = products.get(operand)
            if whole is None:
                whole = products[operand] = frame + self._product(operand, values, products)[0]
            return whole[..., start : start + hidden]
        parts = []
        for term in total.terms:
            part, first = frame, 0
            if term.matrix is Matrix.R:
                part, first = self._product(term.operand, values, products)
            start = term.gate * hidden - first
            parts.append(part[..., start : start + hidden])
        return parts[0] if len(parts) < 2 else np.asarray(parts[0] + parts[1])

    def _product(self, operand: str, values: Values, products: Values) -> tuple[Array, int]:
        """What R gives for an operand, and the first of its rows.

        A state is multiplied with all rows, as if every gate read it: BLAS may sum up fewer rows
        in another order.
        """
        key = "R " + operand
        found: tuple[Array, int] | None = products.get(key)
        if found is None:
            assert self.recurrent is not None
            weights, rows = self.recurrent, slice(0, len(self.recurrent_bias))
            if operand not in self.cell.state_names:
                terms = [term for total in self.cell.sums for term in total.terms]
                gates = [term.gate for term in terms if term.operand == operand]
                rows = consecutive(gates, self.hidden)
                weights = weights.part(rows)
            product = weights.product(values[operand])
            found = products[key] = product + self.recurrent_bias[rows], rows.start
        return found

    def load(self, name: str, value: Array) -> Array:
        """A state as nodes read it."""
        del name
        return value

    def store(self, name: str, value: Array) -> Array:
        """A new value as it is carried."""
        del name
        return value

    def shown(self, h: Array) -> Array:
        """The first state as the layer's output."""
        return h

    def gate(self, node: Gate, total: Array) -> Array:
        """The function of the sum within +-clip."""
        if self.clip is not None:
            bound = total.dtype.type(self.clip)
            total = np.clip(total, -bound, bound)
        return activate(self.activations[node.function], total)

    def peephole(self, node: Peephole, total: Array, value: Array) -> Array:
        """The sum + p*v."""
        assert self.peepholes is not None
        return np.asarray(total + self.peepholes[node.row] * value)

    def gated_sum(self, _: GatedSum, total: Array, unit: Array, inner: Array) -> Array:
        """The sum + u*inner."""
        return np.asarray(total + unit * inner)

    def complement(self, _: Complement, unit: Array) -> Array:
        """1 - u."""
        return np.asarray(unit.dtype.type(1) - unit)

    def mul_add(self, _: MulAdd, f: Array, c: Array, i: Array, g: Array) -> Array:
        """f*c + i*g."""
        return np.asarray(f * c + i * g)

    def lerp(self, _: Lerp, z: Array, n: Array, h: Array) -> Array:
        """(1 - z)*n + z*h."""
        return np.asarray((z.dtype.type(1) - z) * n + z * h)

    def scale(self, _: Scale, unit: Array, value: Array) -> Array:
        """u*v."""
        return np.asarray(unit * value)

    def apply(self, node: Apply, value: Array) -> Array:
        """The function of the value; ONNX Runtime does not clip it either."""
        return activate(self.activations[node.function], value)

    def flush(self, _: Flush, value: Array) -> Array:
        """The value: NumPy has denormals."""
        return value

    def narrow(self, _: Narrow, value: Array) -> Array:
        """The value."""
        return value
