"""Matrix products of a warp: mma.sync m16n8k16 with float16 operands and float32 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda.emulator.execution import Context, UnknownInstructionError
from tests.cuda.emulator.program import Instruction

Array = NDArray[Any]
WARP = 32


def multiply(context: Context, code: Instruction, idx: Array) -> None:
    """D = A * B + C for every warp; fragments as PTX ISA, "Matrix fragments for mma.m16n8k16".

    Raises:
        UnknownInstructionError: another shape or type.
    """
    if code.parts[3:] != ("m16n8k16", "row", "col", "f32", "f16", "f16", "f32"):
        raise UnknownInstructionError(code.text)
    warps = idx.size // WARP
    d, a, b, c = ([word.strip() for word in each.strip("{}").split(",")] for each in code.operands)
    a_halves = _halves(context, a, idx, warps)
    b_halves = _halves(context, b, idx, warps)
    sums = np.stack([context.fetch(word, "f32")(idx) for word in c], 1).reshape(warps, WARP, 4)
    group, member = np.arange(WARP) // 4, np.arange(WARP) % 4
    left = np.zeros((warps, 16, 16))
    right = np.zeros((warps, 16, 8))
    total = np.zeros((warps, 16, 8))
    for register in range(4):
        row, column = group + 8 * (register & 1), 2 * member + 8 * (register >> 1)
        for half in range(2):
            left[:, row, column + half] = a_halves[:, :, register, half]
    for register in range(2):
        for half in range(2):
            right[:, 2 * member + 8 * register + half, group] = b_halves[:, :, register, half]
    for register in range(4):
        total[:, group + 8 * (register >> 1), 2 * member + (register & 1)] = sums[:, :, register]
    product = (left @ right + total).astype(np.float32)
    for register, word in enumerate(d):
        values = product[:, group + 8 * (register >> 1), 2 * member + (register & 1)]
        context.store(word, idx, np.ascontiguousarray(values).reshape(-1))


def _halves(context: Context, words: list[str], idx: Array, warps: int) -> Array:
    packed = np.stack([context.fetch(word, "u32")(idx) for word in words], 1)
    return packed.view(np.float16).reshape(warps, WARP, len(words), 2).astype(np.float64)
