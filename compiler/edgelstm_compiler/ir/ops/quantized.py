"""Between floating point and integers: explicit conversions, and weights stored in few bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import Op, TensorType, Tie

GROUP = 32
"""Columns of int4 weights that share a scale."""


class Storage(StrEnum):
    """How weights that are computed with in float32 are stored."""

    F32 = "f32"  # as they are
    F16 = "f16"  # as half
    I8 = "i8"  # int8 and a float32 scale per row
    I4 = "i4"  # int4 in offset binary, two to a byte, and a float16 scale per GROUP columns


@dataclass(frozen=True, slots=True)
class Quantize(Op):
    """q = clamp(rint(x * inverse) + zero_point) to the range of the type; rint: half to even.

    Shapes:
        x (..., K) float32, inverse (1,) or (K,) float32 -> (..., K) i8 or i16.
    """

    dtype: DType
    zero_point: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape in the integer type."""
        x, inverse = inputs
        if self.dtype not in (DType.I8, DType.I16):
            raise ValueError(f"quantize to {self.dtype.value}")
        _check_scale(x, inverse)
        assert x is not None
        if not x.dtype.is_float:
            raise ValueError(f"quantize {x}")
        return (TensorType(self.dtype, x.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis."""
        del inputs
        return same_axes(outputs[0])


@dataclass(frozen=True, slots=True)
class Dequantize(Op):
    """x = float(q - zero_point) * scale.

    Shapes:
        q (..., K) i8, i16 or i32, scale (1,) or (K,) float32 -> (..., K) float32.
    """

    zero_point: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape in the scale's type."""
        q, scale = inputs
        _check_scale(q, scale)
        assert q is not None
        assert scale is not None
        if q.dtype not in (DType.I8, DType.I16, DType.I32):
            raise ValueError(f"dequantize {q}")
        return (TensorType(scale.dtype, q.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis."""
        del inputs
        return same_axes(outputs[0])


@dataclass(frozen=True, slots=True)
class DequantizeWeights(Op):
    """Weights as float32, from what they are stored as; its inputs are constants.

    A target that packs weights reads the stored form; the operator then is not executed.

    Args:
        storage: the form.
        columns: K.
        transposed: the result's last two axes are swapped (Dense: stored (N, K), used (K, N)).

    Shapes:
        f16: data (..., rows, K) f16, no scale.
        i8: data (..., rows, K) i8, scale (..., rows) f32.
        i4: data (..., rows, ceil(K / 2)) u8, scale (..., rows, ceil(K / 32)) f16; column 2j in the
        low half of byte j, 2j + 1 in the high half, each plus 8.
        Result (..., rows, K) or (..., K, rows) float32.
    """

    storage: Storage
    columns: int
    transposed: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The weights' shape."""
        data, scale = inputs
        if data is None or data.rank < 2:
            raise ValueError(f"weights stored as {data}")
        rows = data.shape[:-1]
        forms = {
            Storage.F16: (DType.F16, self.columns, None),
            Storage.I8: (DType.I8, self.columns, TensorType(DType.F32, rows)),
            Storage.I4: (
                DType.U8,
                -(-self.columns // 2),
                TensorType(DType.F16, (*rows, -(-self.columns // GROUP))),
            ),
        }
        if self.storage not in forms:
            raise ValueError(f"{self.storage.value} weights need nothing to restore them")
        kind, stored, scales = forms[self.storage]
        if data != TensorType(kind, (*rows, stored)) or scale != scales:
            raise ValueError(f"{self.storage.value} weights stored as {data} with scale {scale}")
        shape = (*rows, self.columns)
        if self.transposed:
            shape = (*shape[:-2], shape[-1], shape[-2])
        return (TensorType(DType.F32, shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """None: weights are not in time."""
        del inputs, outputs
        return ()


def same_axes(tensor: TensorType) -> tuple[Tie, ...]:
    """Every axis of the first input is the same axis of the first output."""
    return tuple(Tie(0, axis, 0, axis) for axis in range(tensor.rank))


def _check_scale(x: TensorType | None, scale: TensorType | None) -> None:
    if x is None or scale is None or x.rank < 1 or not scale.dtype.is_float:
        raise ValueError(f"quantization of {x} with scale {scale}")
    if scale.shape not in ((1,), x.shape[-1:]):
        raise ValueError(f"scale {scale} of {x}: expected (1,) or {x.shape[-1:]}")
