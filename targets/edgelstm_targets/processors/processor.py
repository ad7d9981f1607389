"""What an entry says of its processor."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_compiler.processor import Emulator, SpeedRule, Toolchain
from edgelstm_targets.processors.isa import InstructionSet


@dataclass(frozen=True, slots=True)
class Processor:
    """What a target compiles for (`edgelstm_compiler.processor.Processor` and what targets need).

    Args:
        target: the target's name.
        summary: what it is, for people.
        sets: instruction sets, best first.
        unit_block: units per block of packed weights, so that sums fill half of the registers.
        machine: as in `edgelstm.engines.cpu_features.machine()`; "" without an operating system.
        has_float: it has a floating-point unit.
        byte_sets: in place of `sets`, for programs with products of bytes; (): the same.
        other_sets: names of further ones that the target's options ask for.
        packing: of the weights of int8-full; None: in blocks of unit_block.
        weight_offset: what is added to int8 weights, for instructions that take unsigned bytes.
        toolchain: for microcontrollers.
        emulator: of all of its instruction sets; None where there is none.
        without_emulator: what to do then.
        speed: rules of thumb; the first one holds whose flags the machine has.
    """

    target: str
    summary: str
    sets: tuple[InstructionSet, ...]
    unit_block: int
    machine: str
    has_float: bool = True
    byte_sets: tuple[InstructionSet, ...] = ()
    other_sets: tuple[str, ...] = ()
    packing: BytePacking | None = None
    weight_offset: int = 0
    toolchain: Toolchain | None = None
    emulator: Emulator | None = None
    without_emulator: str = ""
    speed: tuple[SpeedRule, ...] = ()

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of all of its instruction sets."""
        names = [isa.name for isa in (*self.sets, *self.byte_sets)]
        return tuple(dict.fromkeys([*names, *self.other_sets]))
