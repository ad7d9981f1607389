"""What each arithmetic opcode of PTX computes, on NumPy arrays of all threads that execute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TYPES: dict[str, Any] = {
    "u8": np.uint8,
    "s8": np.int8,
    "b8": np.uint8,
    "u16": np.uint16,
    "s16": np.int16,
    "b16": np.uint16,
    "u32": np.uint32,
    "s32": np.int32,
    "b32": np.uint32,
    "u64": np.uint64,
    "s64": np.int64,
    "b64": np.uint64,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
}
_WIDE = {"u32": np.uint64, "s32": np.int64, "u16": np.uint32, "s16": np.int32}
Function = Callable[..., Any]

COMPARISONS: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "equ": lambda a, b: ~(a != b) | np.isnan(a) | np.isnan(b),
    "neu": lambda a, b: ~(a == b),
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
}

LOGIC: dict[str, Function] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "not": np.logical_not,
    "mov": lambda a: a,
}

_BINARY: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.fmin,
    "max": np.fmax,
}


def function_of(parts: tuple[str, ...]) -> Function | None:
    """The function of an opcode on operands in its type, or None if the opcode is not known."""
    name, kind = parts[0], parts[-1]
    dtype = TYPES.get(kind)
    if dtype is None:
        return None
    is_float = np.issubdtype(dtype, np.floating)
    if name in ("fma", "mad"):
        return _fused(parts, dtype, is_float)
    if name == "mul" and "wide" in parts:
        wide = _WIDE[kind]
        return lambda a, b: np.asarray(a).astype(wide) * np.asarray(b).astype(wide)
    if name == "mul" and "hi" in parts:
        return lambda a, b: _high(a, b, dtype)
    if name in _BINARY:
        return _BINARY[name]
    if name in ("dp4a", "dp2a"):
        return _dot_product(parts)
    if name in ("div", "rem"):
        return _division(name, is_float)
    if name in ("shl", "shr"):
        return lambda a, b: _shift(name, a, b)
    simple: dict[str, Function] = {
        "neg": np.negative,
        "abs": np.abs,
        "not": np.invert,
        "ex2": lambda a: np.exp2(a.astype(np.float64)).astype(np.float32),
        "lg2": lambda a: np.log2(a.astype(np.float64)).astype(np.float32),
        "rcp": lambda a: (1 / a.astype(np.float64)).astype(np.float32),
        "sqrt": lambda a: np.sqrt(a.astype(np.float64)).astype(np.float32),
        "rsqrt": lambda a: (1 / np.sqrt(a.astype(np.float64))).astype(np.float32),
        "tanh": _coarse_tanh,
        "bfi": _insert_bits,
        "prmt": _permute,
        "mov": lambda a: a,
        "cvta": lambda a: a,
    }
    return simple.get(name)


def convert(values: Array, target: Any, parts: tuple[str, ...]) -> Array:
    """`cvt` to another type: rounding to integers as the opcode says, saturating."""
    wanted = np.dtype(target)
    if "sat" in parts and wanted.kind == "f":
        return np.clip(np.nan_to_num(values), 0, 1).astype(wanted)
    if values.dtype.kind == "f":
        rounding = next((each for each in parts if each in _ROUNDING), None)
        if wanted.kind == "f":
            return (_ROUNDING[rounding](values) if rounding else values).astype(wanted)
        whole = (_ROUNDING[rounding] if rounding else np.trunc)(values.astype(np.float64))
        limits = np.iinfo(wanted)
        clipped = np.clip(np.nan_to_num(whole), limits.min, limits.max)
        return clipped.astype(wanted)
    return values.astype(wanted)


_ROUNDING: dict[str, Function] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def pack_halves(high: Array, low: Array) -> Array:
    """`cvt.rn.f16x2.f32`: two values as float16 in one word."""
    words = [each.astype(np.float16).view(np.uint16).astype(np.uint32) for each in (high, low)]
    return words[0] << np.uint32(16) | words[1]


def _coarse_tanh(a: Array) -> Array:
    """`tanh.approx`, with the error that it may have: 11 bits are right (PTX ISA, "tanh")."""
    mantissa, exponent = np.frexp(np.tanh(a.astype(np.float64)))
    return np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(np.float32)


def _fused(parts: tuple[str, ...], dtype: Any, is_float: bool) -> Function:
    if is_float:
        # The product of two float32 is exact in float64; the sum is rounded twice, once in 2^29.
        return lambda a, b, c: (
            np.asarray(a).astype(np.float64) * np.asarray(b).astype(np.float64) + c
        ).astype(dtype)
    if "wide" in parts:
        wide = _WIDE[parts[-1]]
        return lambda a, b, c: np.asarray(a).astype(wide) * np.asarray(b).astype(wide) + c
    return lambda a, b, c: a * b + c


def _high(a: Any, b: Any, dtype: Any) -> Array:
    bits = np.dtype(dtype).itemsize * 8
    pairs = np.broadcast_arrays(a, b)
    values = [(int(x) * int(y)) >> bits for x, y in zip(*(p.tolist() for p in pairs), strict=True)]
    return np.array(values).astype(dtype)


def _division(name: str, is_float: bool) -> Function:
    if is_float:
        return np.divide if name == "div" else np.fmod
    if name == "div":
        return lambda a, b: (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return np.fmod


def _shift(name: str, a: Array, b: Any) -> Array:
    bits = a.dtype.itemsize * 8
    count = np.asarray(b).astype(np.uint32)
    shift = np.minimum(count, bits - 1).astype(a.dtype)
    if name == "shl":
        return np.where(count < bits, a << shift, a.dtype.type(0))
    moved = a >> shift
    return moved if a.dtype.kind == "i" else np.where(count < bits, moved, a.dtype.type(0))


def _dot_product(parts: tuple[str, ...]) -> Function:
    """dp4a: four bytes of a times those of b, added to c; dp2a: two words of 16 bits times two.

    The types say whether a's, and b's, are signed (PTX ISA, "dp2a").
    """
    signs = [kind == "s32" for kind in parts[-2:]]
    first = 2 if "hi" in parts else 0
    left_kind = (np.uint8, np.int8) if parts[0] == "dp4a" else (np.uint16, np.int16)

    def dot(a: Array, b: Array, c: Array) -> Array:
        left = _fields(a, left_kind[signs[0]])
        right = _fields(b, (np.uint8, np.int8)[signs[1]])[first:]
        total = sum(one * other for one, other in zip(left, right, strict=False))
        return np.asarray(np.asarray(c).astype(np.int32) + total)

    return dot


def _fields(words: Array, kind: Any) -> list[Array]:
    """The numbers in a word, the lowest first, in 32 bits."""
    parts = np.ascontiguousarray(words).view(kind).reshape(len(words), -1)
    return [parts[:, index].astype(np.int32) for index in range(parts.shape[1])]


def _permute(a: Array, b: Array, selector: Array) -> Array:
    """Bytes of the pair (b, a) by four digits of the selector; bit 3 spreads a byte's sign."""
    pair = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    made = np.zeros(a.shape, np.uint32)
    for place in range(4):
        digit = (selector >> np.uint32(4 * place)) & np.uint32(15)
        byte = (pair >> ((digit & np.uint32(7)) * np.uint32(8)).astype(np.uint64)).astype(np.uint8)
        sign = np.where(byte >= 128, np.uint8(255), np.uint8(0))
        byte = np.where(digit >= 8, sign, byte)
        made |= byte.astype(np.uint32) << np.uint32(8 * place)
    return made


def _insert_bits(a: Array, b: Array, start: Any, length: Any) -> Array:
    kind = a.dtype.type
    first, count = int(np.ravel(start)[0]), int(np.ravel(length)[0])
    mask = kind(((1 << count) - 1) << first)
    return (b & ~mask) | ((a << kind(first)) & mask)
