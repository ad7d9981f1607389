"""One frame of many streams: every kernel of a program, for up to `MOST_COLUMNS` of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm_compiler.ir.columns import lines, odd_lines
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.program import Buffer as ProgramBuffer
from edgelstm_compiler.ir.program import Call, Program, Space
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.columns import Kind
from edgelstm_targets.tvm_cpu.batch.kernels import DenseOfStreams, RecurrentOfStreams
from edgelstm_targets.tvm_cpu.batch.projected import (
    ProjectionOfFrames,
    can_project,
    projected_bytes,
)
from edgelstm_targets.tvm_cpu.recurrent import Arguments
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_KINDS = {Space.WEIGHTS: Kind.SHARED, Space.STATE: Kind.STATE}


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call of a program, as single steps make it.

    Args:
        call: the call.
        symbol: its function.
        operands: what that is given.
        arguments: of a recurrent kernel: which buffers there are.
    """

    call: Call
    symbol: str
    operands: tuple[ProgramBuffer, ...]
    arguments: Arguments | None


@dataclass(frozen=True, slots=True)
class ColumnBlock:
    """The memory of one stream of a group: scratch, one frame's inputs and outputs."""

    program: Program

    @property
    def input_at(self) -> int:
        """Byte at which the inputs stand."""
        return lines(self.program.scratch_bytes)

    @property
    def output_at(self) -> int:
        """Byte at which the outputs stand."""
        return self.input_at + lines(self.program.signature.input_bytes)

    @property
    def stride_bytes(self) -> int:
        """From one stream's to the next."""
        return odd_lines(self.output_at + self.program.signature.output_bytes)


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """What moves the streams of a group on by one frame.

    Args:
        frame: `NAME_batch_frame`; its parameters: weights, states, the columns' blocks, workspace,
            state offsets, where there is something shared the sums of the frame and where they
            begin, count. It calls the others.
        kernels: of many columns.
        singly: symbols of kernels of single steps, which are called stream by stream.
        work_bytes: of the workspace.
        together: names of the calls that take all streams of a group at once; the others are made
            stream by stream.
        shared: what streams that read the same frames share; None: nothing.
    """

    frame: Function
    kernels: tuple[Function, ...]
    singly: tuple[str, ...]
    work_bytes: int
    together: tuple[str, ...]
    shared: SharedFrames | None = None


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """What is computed once of frames that all streams read; see `projected.py`.

    Args:
        functions: `NAME_project` (its parameters: weights, frames, sums, how many frames), and what
            it calls.
        frame_bytes: of the sums of one frame.
        reads_frames: whether the streams read them all the same.
    """

    functions: tuple[Function, ...]
    frame_bytes: int
    reads_frames: bool


def stream_frame(
    program: Program, isa: InstructionSet, calls: Sequence[PlannedCall]
) -> StreamFrame:
    """Write one frame of many streams.

    Args:
        program: the program.
        isa: the instruction set.
        calls: in order; what has no kernel of many columns calls the function of single steps.
    """
    name, block = program.signature.name, ColumnBlock(program)
    shared: dict[Hashable, str] = {}
    functions: list[Function] = []
    work_bytes = 64
    batched: list[str | None] = []
    begun = _begun(program, calls) if program.shares_frames else {}
    for planned in calls:
        kernel = _of_streams(planned, block.stride_bytes, is_begun=id(planned) in begun)
        if kernel is None:
            batched.append(None)
            continue
        work_bytes = max(work_bytes, kernel.work_bytes)
        if kernel not in shared:
            shared[kernel] = f"{name}_columns{len(shared)}"
            functions.append(kernel.function(shared[kernel], isa))
        batched.append(shared[kernel])

    def body(
        weights: Buffer,
        states: Buffer,
        columns: Buffer,
        work: Buffer,
        offsets: Buffer,
        *sums_and_count: Any,
    ) -> None:
        *sums, count = sums_and_count
        starts = {
            Space.WEIGHTS: (weights, 0),
            Space.STATE: (states, 0),
            Space.SCRATCH: (columns, 0),
            Space.INPUT: (columns, block.input_at),
            Space.OUTPUT: (columns, block.output_at),
        }

        def pointer(operand: ProgramBuffer, column: Expr | None = None) -> Expr:
            buffer, start = starts[operand.space]
            at = start + operand.offset_bytes
            if column is not None and operand.space is Space.STATE:
                return tir.address(buffer, offsets[column] + at)
            if column is not None and operand.space is not Space.WEIGHTS:
                return tir.address(buffer, column * block.stride_bytes + at)
            return tir.address(buffer, at)

        for planned, symbol in zip(calls, batched, strict=True):
            if symbol is not None:
                own = _without_workspace(planned)
                shown = [pointer(operand) for operand in own]
                if id(planned) in begun:
                    shown += [tir.address(sums[0], begun[id(planned)] // 4)]
                    shown += [tir.address(sums[1], 0)]
                tir.call(symbol, *shown, tir.address(work, 0), tir.address(offsets, 0), count)
                continue
            with tir.loop(count) as column:
                pointers = [pointer(operand, column) for operand in planned.operands]
                turn = [] if planned.arguments is None else [tir.integer(0)]
                tir.call(planned.symbol, *pointers, *turn)

    parameters = [
        *(Parameter(key, "uint8") for key in ("weights", "states", "columns", "work")),
        Parameter("offsets", "int64"),
        *([Parameter("sums", "float32"), Parameter("starts", "int64")] if begun else []),
        Parameter("count", "int32", is_pointer=False),
    ]
    singly = [
        planned.symbol for planned, symbol in zip(calls, batched, strict=True) if symbol is None
    ]
    return StreamFrame(
        tir.define(f"{name}_batch_frame", parameters, body),
        tuple(functions),
        tuple(dict.fromkeys(singly)),
        work_bytes,
        tuple(
            planned.call.name
            for planned, symbol in zip(calls, batched, strict=True)
            if symbol is not None
        ),
        _shared(program, isa, calls, begun) if begun else None,
    )


def _begun(program: Program, calls: Sequence[PlannedCall]) -> dict[int, int]:
    """Layers that read a frame as it comes, by id: the byte of its sums at which theirs stand."""
    found: dict[int, int] = {}
    at = 0
    if program.signature.input_bytes % 4:
        return found
    for planned in calls:
        kernel, arguments = planned.call.kernel, planned.arguments
        x = planned.operands[0]
        if (
            isinstance(kernel, RecurrentKernel)
            and arguments is not None
            and x.space is Space.INPUT
            and x.offset_bytes % 4 == 0
            and can_project(kernel, arguments)
        ):
            found[id(planned)] = at
            at += projected_bytes(kernel)
    return found


def _shared(
    program: Program,
    isa: InstructionSet,
    calls: Sequence[PlannedCall],
    begun: Mapping[int, int],
) -> SharedFrames:
    """The functions that compute what is shared."""
    name, input_bytes = program.signature.name, program.signature.input_bytes
    chosen = [planned for planned in calls if id(planned) in begun]
    kernels = [planned.call.kernel for planned in chosen]
    size = sum(projected_bytes(each) for each in kernels if isinstance(each, RecurrentKernel))
    symbols: dict[ProjectionOfFrames, str] = {}
    made = []
    for planned in chosen:
        kernel, arguments = planned.call.kernel, planned.arguments
        assert isinstance(kernel, RecurrentKernel)
        assert arguments is not None
        projection = ProjectionOfFrames(kernel, arguments, input_bytes, size)
        symbol = symbols.setdefault(projection, f"{name}_project{len(symbols)}")
        made.append((planned, symbol))

    def body(weights: Buffer, frames: Buffer, sums: Buffer, count: Expr) -> None:
        for planned, symbol in made:
            x, own, *_ = planned.operands
            tir.call(
                symbol,
                tir.address(frames, x.offset_bytes),
                tir.address(weights, own.offset_bytes),
                tir.address(sums, begun[id(planned)] // 4),
                count,
            )

    parameters = [
        *(Parameter(key, "uint8") for key in ("weights", "frames")),
        Parameter("sums", "float32"),
        Parameter("count", "int32", is_pointer=False),
    ]
    functions = [each.function(symbol, isa) for each, symbol in symbols.items()]
    others = any(
        operand.space is Space.INPUT
        for planned in calls
        for index, operand in enumerate(planned.operands)
        if id(planned) not in begun or index > 0
    )
    return SharedFrames((*functions, tir.define(f"{name}_project", parameters, body)), size, others)


def _of_streams(
    planned: PlannedCall, stride_bytes: int, *, is_begun: bool = False
) -> RecurrentOfStreams | DenseOfStreams | None:
    """The kernel of many columns of a call, if it has one."""
    kernel, arguments, own = planned.call.kernel, planned.arguments, _without_workspace(planned)
    kinds = tuple(_KINDS.get(operand.space, Kind.COLUMN) for operand in own)
    if isinstance(kernel, DenseKernel):
        x, _, *tables, y = kinds
        if (x, y) != (Kind.COLUMN, Kind.COLUMN):
            return None
        return DenseOfStreams(kernel, bool(tables), stride_bytes)
    if not isinstance(kernel, RecurrentKernel) or arguments is None:
        return None
    if kernel.batch != 1 or arguments.lengths or kernel.op.kept is not None:
        return None
    return RecurrentOfStreams(kernel, arguments, kinds, stride_bytes, is_begun)


def _without_workspace(planned: PlannedCall) -> tuple[ProgramBuffer, ...]:
    """What single steps are given, but their workspace, which is the last."""
    return planned.operands[:-1] if planned.call.workspace is not None else planned.operands
