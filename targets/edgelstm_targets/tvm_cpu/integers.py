"""Which integer arithmetic an instruction set has."""

from __future__ import annotations

from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.neon_integers import NeonIntegers

_NEON = ("sdot", "neon")
_HALVES = 8


def integers(lanes: int, isa: InstructionSet) -> Integers:
    """Operations on vectors of some lanes, 1 for scalars."""
    if isa.dot in _NEON and lanes % _HALVES == 0:
        return NeonIntegers(lanes, isa)
    return Integers(lanes, isa)
