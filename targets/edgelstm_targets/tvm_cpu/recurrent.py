"""A recurrent layer as one function: directions, batch, frames, phases and blocks of units."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.ops import Direction
from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells import EPILOGUES
from edgelstm_targets.tvm_cpu.cells.block import Block, Slot
from edgelstm_targets.tvm_cpu.copying import copy_elements, fill_zero
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.matvec import Operand, PackedPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

# Call inputs: x, weights, sequence_lens, initial_h, initial_c. Outputs: y, y_h, y_c.
X, WEIGHTS, LENGTHS, INITIAL_H, INITIAL_C = range(5)
Y, Y_H, Y_C = range(3)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which of a call's optional buffers its function takes.

    Args:
        lengths: sequence_lens.
        initial_h: a buffer other than y_h's.
        initial_c: a buffer other than y_c's.
        continues_h: y_h holds the initial state already.
        continues_c: y_c does.
        y: the output of all frames.
    """

    lengths: bool
    initial_h: bool
    initial_c: bool
    continues_h: bool
    continues_c: bool
    y: bool


@dataclass(frozen=True, slots=True)
class _Memory:
    """The buffers of a call."""

    x: Buffer
    weights: Buffer
    lengths: Buffer | None
    initial: tuple[Buffer | None, ...]
    y: Buffer | None
    states: tuple[Buffer, ...]
    work: Buffer


def recurrent_function(
    name: str, kernel: RecurrentKernel, arguments: Arguments, isa: InstructionSet
) -> Function:
    """The function of a recurrent kernel.

    Its parameters are those buffers of the call that exist, in the order x, weights,
    sequence_lens, initial_h, initial_c, y, y_h, y_c, workspace.
    """
    has_cell = kernel.op.state_count == 2
    names = ["x", "weights"]
    optional = (
        ("lengths", arguments.lengths),
        ("initial_h", arguments.initial_h),
        ("initial_c", arguments.initial_c and has_cell),
        ("y", arguments.y),
        ("y_h", True),
        ("y_c", has_cell),
        ("work", True),
    )
    names += [key for key, present in optional if present]
    parameters = [Parameter(key, "int32" if key == "lengths" else "float32") for key in names]

    def body(*buffers: Buffer) -> None:
        given = dict(zip(names, buffers, strict=True))
        states = ("h", "c") if has_cell else ("h",)
        memory = _Memory(
            given["x"],
            given["weights"],
            given.get("lengths"),
            tuple(given.get(f"initial_{state}") for state in states),
            given.get("y"),
            tuple(given[f"y_{state}"] for state in states),
            given["work"],
        )
        _Layer(kernel, arguments, isa, memory).write()

    return tir.define(name, parameters, body)


@dataclass(frozen=True, slots=True)
class _Layer:
    kernel: RecurrentKernel
    arguments: Arguments
    isa: InstructionSet
    memory: _Memory

    @property
    def phases(self) -> tuple[PackedPhase, ...]:
        peepholes = 3 if self.kernel.has_peepholes else 0
        block = self.kernel.unit_block
        return tuple(
            PackedPhase(phase, block, self.blocks, peepholes, self.isa)
            for phase in self.kernel.phases
        )

    @property
    def blocks(self) -> int:
        return self.kernel.padded_hidden // self.kernel.unit_block

    @property
    def direction_elements(self) -> int:
        return sum(phase.block_elements for phase in self.phases) * self.blocks

    def write(self) -> None:
        """All directions; one loop where they differ in nothing but their order."""
        op = self.kernel.op
        half = len(op.activations) // op.direction.count
        halves = [op.activations[d * half : (d + 1) * half] for d in range(op.direction.count)]
        if op.direction is Direction.BIDIRECTIONAL and halves[0] == halves[1]:
            with _repeat(2) as d:
                self.direction(d, 0, d == 1)
        else:
            for d in range(op.direction.count):
                backward = d == 1 or op.direction is Direction.REVERSE
                self.direction(tir.integer(d), d, tirx.const(backward, "bool"))

    def direction(self, d: Expr, functions: int, backward: Expr) -> None:
        """All sequences of the batch in one direction."""
        kernel = self.kernel
        hidden, batch, steps = kernel.op.hidden, kernel.batch, kernel.steps
        with _repeat(batch) as b:
            at = (d * batch + b) * hidden
            continues = (self.arguments.continues_h, self.arguments.continues_c)
            for state, initial, goes_on in zip(
                self.memory.states, self.memory.initial, continues, strict=False
            ):
                if initial is not None:
                    copy_elements(initial, at, state, at, hidden)
                elif not goes_on:
                    fill_zero(state, at, hidden)
            frame = partial(self.frame, d, functions, b)
            if self.memory.lengths is None:
                with _repeat(steps) as i:
                    frame(tirx.Select(backward, steps - 1 - i, i))
                return
            length = tirx.min(tir.integer(steps), self.memory.lengths[b])
            length = tir.name(tirx.max(tir.integer(0), length))
            with tir.loop(length) as i:
                frame(tirx.Select(backward, length - 1 - i, i))
            with tir.when(length == 0):
                # As ONNX Runtime does: the final states of an empty sequence are zero.
                for state in self.memory.states:
                    fill_zero(state, at, hidden)
            y = self.memory.y
            if y is not None:
                with tir.loop(steps - length) as i:
                    fill_zero(y, self.y_start(d, b, length + i), hidden)

    def y_start(self, d: Expr, b: Expr, t: Expr) -> Expr:
        """Where frame t of the output begins."""
        kernel = self.kernel
        return ((t * kernel.op.direction.count + d) * kernel.batch + b) * kernel.op.hidden

    def frame(self, d: Expr, functions: int, b: Expr, t: Expr) -> None:
        """One frame of one sequence: all phases, then the new state takes the old one's place."""
        kernel, memory = self.kernel, self.memory
        hidden, padded = kernel.op.hidden, kernel.padded_hidden
        state = tir.name((d * kernel.batch + b) * hidden)
        x = tir.name((t * kernel.batch + b) * kernel.features)
        operands = {
            Source.X: Operand(memory.x, x),
            Source.H: Operand(memory.states[0], state),
            Source.RESET_H: Operand(memory.work, tir.integer(2 * padded)),
        }
        begin = d * self.direction_elements
        for index, phase in enumerate(self.phases):
            streams = phase.streams([operands[s.source] for s in phase.phase.sections])
            with _repeat(self.blocks) as n:
                block = tir.name(begin + n * phase.block_elements)
                unit = tir.name(n * kernel.unit_block)
                for part in range(phase.parts):
                    sums = phase.sums(memory.weights, block, part, streams)
                    self.finish(index, functions, sums, block, unit, part, state)
            begin = begin + phase.block_elements * self.blocks
        copy_elements(memory.work, tir.integer(0), memory.states[0], state, hidden)
        if memory.y is not None:
            copy_elements(memory.work, tir.integer(0), memory.y, self.y_start(d, b, t), hidden)

    def finish(
        self,
        index: int,
        functions: int,
        sums: list[Expr],
        block: Expr,
        unit: Expr,
        part: int,
        state: Expr,
    ) -> None:
        """The cell's epilogue for one group of units."""
        kernel, memory, phase = self.kernel, self.memory, self.phases[index]
        hidden, padded, lanes = kernel.op.hidden, kernel.padded_hidden, phase.units
        first = unit + part * lanes
        count = None if hidden == padded else tir.name(hidden - first)
        half = len(kernel.op.activations) // kernel.op.direction.count
        peephole = block + (phase.peephole_offset + part * lanes)
        EPILOGUES[type(kernel.op)](
            Block(
                op=kernel.op,
                activations=kernel.op.activations[functions * half : (functions + 1) * half],
                lanes=lanes,
                sums=sums,
                phase=index,
                h=Slot(memory.states[0], state + first, count),
                c=Slot(memory.states[1], state + first, count) if len(memory.states) > 1 else None,
                new_h=Slot(memory.work, first),
                handed=[Slot(memory.work, padded * (1 + i) + first) for i in range(2)],
                peepholes=[
                    Slot(memory.weights, peephole + i * kernel.unit_block)
                    for i in range(phase.peepholes)
                ],
            )
        )


class _Once:
    """A block that is written once, with index 0."""

    def __enter__(self) -> Expr:
        return tir.integer(0)

    def __exit__(self, *error: object) -> None:
        return None


def _repeat(count: int) -> _Once | AbstractContextManager[Expr]:
    return tir.loop(count) if count > 1 else _Once()
