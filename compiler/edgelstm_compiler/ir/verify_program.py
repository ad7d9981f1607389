"""The invariants of the stage Program; a breach is our fault, and a wild access on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.program import (
    ALIGNMENT,
    NOTES_BYTES,
    Buffer,
    Call,
    Program,
    ScanKernel,
    Space,
)
from edgelstm_compiler.ir.types import Array

_OWN = (Space.WEIGHTS, Space.STATE, Space.SCRATCH)
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class _Written:
    """Who wrote each byte last, in a block whose content does not outlive a step."""

    numbers: Array
    buffers: list[Buffer]

    def by(self, buffer: Buffer) -> None:
        self.numbers[buffer.offset_bytes : _end(buffer)] = len(self.buffers)
        self.buffers.append(buffer)


def verify_program(program: Program) -> None:
    """Check places, order and completeness.

    Every buffer lies within its block and is aligned; inputs and weights are only read; what is
    read of scratch and outputs was written before in the same step, and by nothing else since;
    every byte of every output is written.

    Raises:
        InvalidGraphError: naming the call and the buffer.
    """
    sizes = {
        Space.INPUT: program.signature.input_bytes,
        Space.OUTPUT: program.signature.output_bytes,
        Space.WEIGHTS: len(program.weights),
        Space.STATE: len(program.state_init),
        Space.SCRATCH: program.scratch_bytes,
    }
    names: set[str] = set()
    written = {
        space: _Written(np.full(sizes[space], _NOBODY, np.int32), [])
        for space in (Space.SCRATCH, Space.OUTPUT)
    }
    for call in program.calls:
        if isinstance(call.kernel, ScanKernel):
            verify_program(call.kernel.body)
        if call.name in names:
            raise InvalidGraphError(f"call {call.name!r}: the name is used twice")
        names.add(call.name)
        for buffer in _buffers(call):
            _verify_place(call, buffer, sizes[buffer.space])
        for read in call.inputs:
            if read is not None and read.space in written:
                _verify_written(call, read, written[read.space])
        _verify_apart(call)
        for target in (*call.outputs, call.workspace):
            if target is not None and target.space in written:
                written[target.space].by(target)
    for spec in program.signature.outputs:
        end = spec.offset_bytes + spec.nbytes
        shown = written[Space.OUTPUT].numbers[spec.offset_bytes : end]
        if shown.size != spec.nbytes or np.any(shown == _NOBODY):
            raise InvalidGraphError(f"output {spec.name!r} is not written by any call")
    for state in program.signature.states:
        if state.offset_bytes + state.nbytes > len(program.state_init):
            raise InvalidGraphError(f"state {state.name!r} does not fit into the state block")


def _buffers(call: Call) -> Iterator[Buffer]:
    for buffer in (*call.inputs, *call.outputs, call.workspace):
        if buffer is not None:
            yield buffer


def _verify_place(call: Call, buffer: Buffer, size: int) -> None:
    where = f"call {call.name!r}: {buffer.name!r} at {buffer.space.value}+{buffer.offset_bytes}"
    if buffer.offset_bytes < 0 or _end(buffer) > size:
        raise InvalidGraphError(f"{where} ends at {_end(buffer)}, its block at {size}")
    alignment = ALIGNMENT if buffer.space in _OWN else buffer.type.dtype.itemsize
    if buffer.offset_bytes % alignment:
        raise InvalidGraphError(f"{where} is not aligned to {alignment} bytes")
    if buffer.space is Space.SCRATCH and buffer.offset_bytes < NOTES_BYTES:
        raise InvalidGraphError(f"{where} lies within the target's notes")
    is_written = buffer in call.outputs or buffer is call.workspace
    if is_written and buffer.space in (Space.INPUT, Space.WEIGHTS):
        raise InvalidGraphError(f"{where} is written, and that block is only read")


def _verify_written(call: Call, buffer: Buffer, written: _Written) -> None:
    where = f"call {call.name!r} reads {buffer.name!r} at {buffer.space.value}"
    for number in np.unique(written.numbers[buffer.offset_bytes : _end(buffer)]):
        if number == _NOBODY:
            raise InvalidGraphError(f"{where}+{buffer.offset_bytes}, which nothing wrote before")
        writer = written.buffers[number]
        if (writer.offset_bytes, _end(writer)) != (buffer.offset_bytes, _end(buffer)):
            raise InvalidGraphError(
                f"{where}+{buffer.offset_bytes}, where {writer.name!r} was written over it"
            )


def _verify_apart(call: Call) -> None:
    """A workspace touches nothing else of its call; two results do not touch each other."""
    written = [b for b in (*call.outputs, call.workspace) if b is not None]
    others = [b for b in call.inputs if b is not None]
    for index, buffer in enumerate(written):
        against = written[index + 1 :] + (others if buffer is call.workspace else [])
        for other in against:
            if (
                buffer.space is other.space
                and buffer.offset_bytes < _end(other)
                and other.offset_bytes < _end(buffer)
            ):
                raise InvalidGraphError(
                    f"call {call.name!r}: {buffer.name!r} and {other.name!r} overlap"
                )


def _end(buffer: Buffer) -> int:
    return buffer.offset_bytes + buffer.type.nbytes
