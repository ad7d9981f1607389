"""Matrix products of a warp: mma.sync of float16 with float32 sums, of bytes with int32 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda.emulator.execution import Context, UnknownInstructionError
from tests.cuda.emulator.program import Instruction

Array = NDArray[Any]
WARP = 32
_HALVES = ("m16n8k16", "row", "col", "f32", "f16", "f16", "f32")
_BYTES = {
    ("m16n8k32", "row", "col", "s32", left, "s8", "s32"): kind
    for left, kind in (("s8", np.int8), ("u8", np.uint8))
}


def multiply(context: Context, code: Instruction, idx: Array) -> None:
    """D = A * B + C for every warp.

    Fragments as PTX ISA, "Matrix fragments for mma.m16n8k16" and "... for mma.m16n8k32": in both a
    word holds neighbours of a row of A, or of a column of B.

    Raises:
        UnknownInstructionError: another shape or type.
    """
    shape = code.parts[3:]
    if shape == _HALVES:
        _multiply(context, code, idx, (np.float16, np.float16), "f32", np.float64)
    elif shape in _BYTES:
        # Sums wrap as int32 do, and int64 holds what one product adds.
        _multiply(context, code, idx, (_BYTES[shape], np.int8), "s32", np.int64)
    else:
        raise UnknownInstructionError(code.text)


def _multiply(
    context: Context, code: Instruction, idx: Array, kinds: tuple[Any, Any], sums: str, exact: Any
) -> None:
    warps, each = idx.size // WARP, 4 // np.dtype(kinds[0]).itemsize
    d, a, b, c = ([word.strip() for word in each.strip("{}").split(",")] for each in code.operands)
    a_parts = _parts(context, a, idx, warps, kinds[0]).astype(exact)
    b_parts = _parts(context, b, idx, warps, kinds[1]).astype(exact)
    before = np.stack([context.fetch(word, sums)(idx) for word in c], 1).reshape(warps, WARP, 4)
    group, member = np.arange(WARP) // 4, np.arange(WARP) % 4
    left = np.zeros((warps, 16, 8 * each), exact)
    right = np.zeros((warps, 8 * each, 8), exact)
    total = np.zeros((warps, 16, 8), exact)
    for register in range(4):
        row, column = group + 8 * (register & 1), each * (member + 4 * (register >> 1))
        for part in range(each):
            left[:, row, column + part] = a_parts[:, :, register, part]
    for register in range(2):
        for part in range(each):
            right[:, each * (member + 4 * register) + part, group] = b_parts[:, :, register, part]
    for register in range(4):
        total[:, group + 8 * (register >> 1), 2 * member + (register & 1)] = before[:, :, register]
    product = (left @ right + total).astype(before.dtype)
    for register, word in enumerate(d):
        values = product[:, group + 8 * (register >> 1), 2 * member + (register & 1)]
        context.store(word, idx, np.ascontiguousarray(values).reshape(-1))


def _parts(context: Context, words: list[str], idx: Array, warps: int, kind: Any) -> Array:
    packed = np.stack([context.fetch(word, "u32")(idx) for word in words], 1)
    return packed.view(kind).reshape(warps, WARP, len(words), -1)
