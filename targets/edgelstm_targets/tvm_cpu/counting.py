"""Which values of a program are counted where they lie beyond the range of their integers.

The counters stand in the notes of the scratch block, behind the number of the step: nothing else
carries from step to step that changes no result. Microcontrollers have none: nobody asks there.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.engines.native import COUNTS_START, MOST_COUNTS
from edgelstm_compiler.ir.kernels import OpKernel
from edgelstm_compiler.ir.ops import Quantize
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_targets.processors.isa import InstructionSet

_WORD = 4


@dataclass(frozen=True, slots=True)
class Counter:
    """A call that quantizes, and where it counts.

    Args:
        call: the call.
        name: of the input that it quantizes, or of the value.
        offset_bytes: of the counter in the scratch block.
    """

    call: Call
    name: str
    offset_bytes: int


def counters(program: Program, isa: InstructionSet | None = None) -> tuple[Counter, ...]:
    """The counters of a step, as many as fit; none where `isa` is a microcontroller's."""
    if isa is not None and isa.is_bare:
        return ()
    calls = [call for call in program.calls if _quantizes(call)]
    return tuple(
        Counter(call, _name(call, program), COUNTS_START + _WORD * index)
        for index, call in enumerate(calls[:MOST_COUNTS])
    )


def _quantizes(call: Call) -> bool:
    return isinstance(call.kernel, OpKernel) and isinstance(call.kernel.op, Quantize)


def _name(call: Call, program: Program) -> str:
    """The input, also where an offset was taken off it before."""
    source = call.inputs[0]
    assert source is not None
    for maker in program.calls:
        if source.space is not Space.INPUT and any(_is_same(source, x) for x in maker.outputs):
            first = maker.inputs[0] if maker.inputs else None
            source = first if first is not None and first.space is Space.INPUT else source
            break
    for spec in program.signature.inputs:
        if source.space is Space.INPUT and source.offset_bytes == spec.offset_bytes:
            return spec.name
    return call.name.removesuffix(".quantize")


def _is_same(a: Buffer, b: Buffer | None) -> bool:
    return b is not None and (a.space, a.offset_bytes) == (b.space, b.offset_bytes)
