"""Element types that models, artifacts and kernels use, and their names in NumPy and C."""

from __future__ import annotations

import importlib
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError


class DType(Enum):
    """One element type; the value is its name in text forms and manifests."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type of an element.

        Raises:
            CapabilityError: bfloat16, where the package that NumPy has it from is not installed.
        """
        return _bfloat16() if self is DType.BF16 else _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEMSIZES[self]

    @property
    def c_name(self) -> str:
        """The C99 type of an element (`uint16_t` holds the bits of a half or a bfloat16)."""
        return _C_NAMES[self]

    @property
    def is_float(self) -> bool:
        """Whether NaN and infinity exist in this type."""
        return self in (DType.F64, DType.F32, DType.F16, DType.BF16)

    @property
    def largest(self) -> float:
        """The largest finite number of a floating-point type."""
        return _LARGEST[self]

    @classmethod
    def from_numpy(cls, dtype: np.dtype[np.generic] | type[np.generic]) -> DType:
        """The element type of a NumPy dtype.

        Raises:
            KeyError: the dtype has no counterpart here (strings, complex numbers, ...).
        """
        found = np.dtype(dtype)
        return DType.BF16 if found.name == "bfloat16" else _FROM_NUMPY[found]


RAW_HALF = np.dtype("V2")
"""What NumPy writes of bfloat16 into its files, and reads back: two bytes without a meaning."""


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy's type is one of floats; its own test does not know bfloat16."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


@cache
def _bfloat16() -> np.dtype[np.generic]:
    try:
        # By name: only models in bfloat16 need it.
        found: np.dtype[np.generic] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise CapabilityError(
            "the model has inputs or outputs in bfloat16, which NumPy has from the package "
            "ml_dtypes: pip install 'edgelstm[bfloat16]'"
        ) from error
    return found


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.F64: np.dtype(np.float64),
    DType.F32: np.dtype(np.float32),
    DType.F16: np.dtype(np.float16),
    DType.I64: np.dtype(np.int64),
    DType.I32: np.dtype(np.int32),
    DType.I16: np.dtype(np.int16),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_),
}
_FROM_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}
_ITEMSIZES = {name: dtype.itemsize for name, dtype in _NUMPY.items()} | {DType.BF16: 2}
_LARGEST = {
    DType.F64: float(np.finfo(np.float64).max),
    DType.F32: float(np.finfo(np.float32).max),
    DType.F16: float(np.finfo(np.float16).max),
    DType.BF16: (2.0 - 2.0**-7) * 2.0**127,
}
_C_NAMES = {
    DType.F64: "double",
    DType.F32: "float",
    DType.F16: "uint16_t",
    DType.BF16: "uint16_t",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
}
