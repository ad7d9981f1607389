"""Scheme int8: layers whose products are of int8 weights with statically quantized activations.

They take the place of the float operator between the same values: x, states and outputs stay
float32; gates and cell state are computed in float32. For each product

    q(x) = clamp(rint(x * inverse) + zero_point),   sum = float(int32 sum of q(x) * w) * scale[row]

The x part and the h part have sums and scales of their own; the zero point and the bias are folded
into B by the quantizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops.recurrent import R, Recurrent, W, X
from edgelstm_compiler.ir.types import Op, TensorType, Tie

W_SCALE, R_SCALE, X_INVERSE = 8, 9, 10
"""Indices of the inputs that the float operator does not have, after its eight."""

INPUTS = 11


@dataclass(frozen=True, slots=True)
class Int8Recurrent(Op):
    """A recurrent layer; peepholes stay float32, what a phase hands to products is quantized as h.

    Args:
        cell: the float operator it stands for.
        x_dtype: i8 or i16, what x is quantized to.
        x_zero_point: of x.
        h_inverse: 1 / scale of h (a float32), and of whatever else R is multiplied with.

    Shapes:
        inputs: X (T, B, I) f32, W (D, G*H, I) i8, R (D, G*H, H) i8, B (D, 2*G*H) f32 or None,
        sequence_lens, initial states and P as in the float operator,
        w_scale (D, G*H) f32, r_scale (D, G*H) f32, x_inverse (I,) f32; R and r_scale are None where
        the cell does not read them.
        outputs: those of the float operator.
    """

    cell: Recurrent
    x_dtype: DType
    x_zero_point: int
    h_inverse: float

    @property
    def label(self) -> str:
        """With the name of the cell."""
        return f"Int8{self.cell.kind}"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The outputs of the float operator."""
        if len(inputs) != INPUTS:
            raise ValueError(f"{len(inputs)} inputs, expected {INPUTS}")
        as_float = list(inputs[:W_SCALE])
        is_recurrent = self.cell.cell().is_recurrent
        for position, name in ((W, "W"), (R, "R")) if is_recurrent else ((W, "W"),):
            weights = as_float[position]
            if weights is None or weights.dtype is not DType.I8:
                raise ValueError(f"{name} is {weights}, expected i8")
            as_float[position] = TensorType(DType.F32, weights.shape)
        outputs = self.cell.infer(as_float)
        x, w = as_float[X], as_float[W]
        assert x is not None
        assert w is not None
        rows = TensorType(DType.F32, w.shape[:2])
        expected = (rows, rows if is_recurrent else None, TensorType(DType.F32, x.shape[-1:]))
        if tuple(inputs[W_SCALE:]) != expected:
            raise ValueError(f"scales {inputs[W_SCALE:]}, expected {expected}")
        return outputs

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Those of the float operator."""
        return self.cell.ties(inputs, outputs)


@dataclass(frozen=True, slots=True)
class Int8Dense(Op):
    """activation(float(sum of q(x) w) * scale + b) on the last axis.

    Shapes:
        x (..., K) f32, w (N, K) i8, b (N,) f32 or None, scale (N,) f32, inverse (K,) f32
        -> (..., N) f32. The weights stand by rows, unlike those of Dense.
    """

    activation: Activation | None
    x_dtype: DType
    x_zero_point: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape with N in place of K."""
        x, w, b, scale, inverse = inputs
        if x is None or w is None or w.rank != 2 or w.dtype is not DType.I8:
            raise ValueError(f"Int8Dense of {x} with weights {w}")
        units, features = w.shape
        per_unit, per_input = (TensorType(DType.F32, (extent,)) for extent in (units, features))
        if x.rank < 1 or x.shape[-1] != features or x.dtype is not DType.F32:
            raise ValueError(f"Int8Dense of {x} with weights {w}")
        if b not in (None, per_unit) or scale != per_unit or inverse != per_input:
            raise ValueError(f"Int8Dense bias {b}, scale {scale}, inverse {inverse}")
        return (x.with_shape((*x.shape[:-1], units)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """All axes but the last."""
        del inputs
        return tuple(Tie(0, axis, 0, axis) for axis in range(outputs[0].rank - 1))
