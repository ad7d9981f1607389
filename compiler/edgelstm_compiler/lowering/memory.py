"""Places buffers in one arena: those whose lives overlap never overlap in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.program import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Life:
    """A piece of memory that is needed from call `first` to call `last`, both included."""

    nbytes: int
    first: int
    last: int


def align(offset: int, alignment: int = ALIGNMENT) -> int:
    """The next multiple of the alignment."""
    return -(-offset // alignment) * alignment


def plan_arena(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Offsets of the pieces and the size of the arena.

    Greedy by size: each piece, largest first, takes the lowest place that is free during its life
    (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    offsets = [0] * len(lives)
    placed: list[int] = []
    for index in sorted(range(len(lives)), key=lambda i: (-lives[i].nbytes, i)):
        life = lives[index]
        occupied = sorted(
            (offsets[other], offsets[other] + align(lives[other].nbytes))
            for other in placed
            if lives[other].first <= life.last and life.first <= lives[other].last
        )
        at = 0
        for start, end in occupied:
            if at + align(life.nbytes) <= start:
                break
            at = max(at, end)
        offsets[index] = at
        placed.append(index)
    size = max((offsets[i] + align(life.nbytes) for i, life in enumerate(lives)), default=0)
    return offsets, size
