"""A recurrent layer as one function: directions, batch, frames, phases and blocks of units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from edgelstm.numerics.cells import Cell
from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_compiler.ir.ops import Direction
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.blocks_at_once import is_at_once, write_at_once
from edgelstm_targets.tvm_cpu.cells.body import UnitMemory, write_body
from edgelstm_targets.tvm_cpu.cells.floats import FloatNodes
from edgelstm_targets.tvm_cpu.cells.slots import Slot, UnitGroup
from edgelstm_targets.tvm_cpu.copying import copy_elements, fill_zero
from edgelstm_targets.tvm_cpu.kept_states import KeptStates
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand, PackedPhase, Started
from edgelstm_targets.tvm_cpu.projection import (
    PROJECTED_ELEMENTS,
    Projection,
    frames_at_once,
)
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

# Call inputs: x, weights, sequence_lens, initial states. Outputs: y, final states.
X, WEIGHTS, LENGTHS, INITIAL = range(4)
Y, FINAL = range(2)

SHORT_CHAIN_UNITS = 32
"""Layers up to this size take the shorter exponential (`fused_exponential.py`): a step of theirs
waits for it. Larger ones wait for their weights, and the longer one is nearer to float64 over many
frames (apple_watch_lstm of the corpus, 1,000 frames: root mean square 0.4 to 1.1e-8 against 1.2 to
1.6e-8)."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which of a call's optional buffers its function takes.

    Args:
        lengths: sequence_lens.
        initial: for each state a buffer other than that of the final one.
        continues: for each state the final one's buffer holds the initial one already.
        y: the output of all frames.
        ahead: sums of the frame that are there already, see `ahead.py`.
    """

    lengths: bool
    initial: tuple[bool, ...]
    continues: tuple[bool, ...]
    y: bool
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """The buffers of a call; tables: of integer functions, where there are any."""

    x: Buffer
    weights: Buffer
    lengths: Buffer | None
    initial: tuple[Buffer | None, ...]
    y: Buffer | None
    states: tuple[Buffer, ...]
    work: Buffer
    turn: Expr
    tables: Buffer | None = None
    ahead: Buffer | None = None


@dataclass(frozen=True, slots=True)
class ElementTypes:
    """TVM's names of the element types of a call's buffers; tables None: there are none."""

    x: str
    y: str
    states: tuple[str, ...]
    tables: str | None = None


def layer_function(
    name: str,
    kernel: RecurrentKernel,
    arguments: Arguments,
    isa: InstructionSet,
    layer: type[Layer],
    write: Callable[[Memory], None] | None = None,
) -> Function:
    """The function of a recurrent kernel.

    Its parameters are those buffers of the call that exist, in the order x, weights,
    sequence_lens, initial states, tables, y, final states, workspace, sums; and last, as int32, the
    number of the call. The blocks of weights are walked forwards and backwards in turn: what was
    read last is still near when it is read first. The results do not depend on it.

    Args:
        name: its symbol.
        kernel: sizes and attributes.
        arguments: which buffers there are.
        isa: the instruction set.
        layer: what writes the body.
        write: another way to write it, on the function's buffers.
    """
    states, types = kernel.cell.state_names, layer.element_types(kernel)
    carried = list(zip(states, types.states, arguments.initial, strict=True))
    optional = (
        ("x", types.x, True),
        ("weights", "float32", True),
        ("lengths", "int32", arguments.lengths),
        *((f"initial_{state}", dtype, present) for state, dtype, present in carried),
        ("tables", types.tables or "", types.tables is not None),
        ("y", types.y, arguments.y),
        *((f"y_{state}", dtype, True) for state, dtype, _ in carried),
        ("work", "float32", True),
        ("ahead", "float32", arguments.ahead),
    )
    parameters = [Parameter(key, dtype) for key, dtype, present in optional if present]
    names = [parameter.name for parameter in parameters]
    parameters.append(Parameter("turn", "int32", is_pointer=False))

    def body(*values: Buffer) -> None:
        *buffers, turn = values
        given = dict(zip(names, buffers, strict=True))
        memory = Memory(
            given["x"],
            given["weights"],
            given.get("lengths"),
            tuple(given.get(f"initial_{state}") for state in states),
            given.get("y"),
            tuple(given[f"y_{state}"] for state in states),
            given["work"],
            turn,
            given.get("tables"),
            given.get("ahead"),
        )
        if write is not None:
            write(memory)
        else:
            layer(kernel, arguments, isa, memory).write()

    return tir.define(name, parameters, body)


@dataclass(frozen=True, slots=True)
class Layer:
    """Writes the body of a recurrent layer; layers of other weights override what they do else."""

    kernel: RecurrentKernel
    arguments: Arguments
    isa: InstructionSet
    memory: Memory

    @staticmethod
    def element_types(kernel: RecurrentKernel) -> ElementTypes:
        """Of the buffers of a call."""
        return ElementTypes("float32", "float32", ("float32",) * len(kernel.cell.states))

    @property
    def phases(self) -> tuple[BlockPhase, ...]:
        """How the blocks of each phase are packed and summed."""
        return self.float_phases

    @property
    def float_phases(self) -> tuple[PackedPhase, ...]:
        """The phases of weights in float32."""
        block, rows = self.kernel.unit_block, self.kernel.cell.peepholes
        return tuple(
            PackedPhase(phase, block, self.blocks, rows, self.isa) for phase in self.kernel.phases
        )

    @property
    def tail_phases(self) -> tuple[BlockPhase, ...]:
        """For the last block, where that leaves out half of it or more: no unit stands there."""
        tail = self.kernel.op.hidden % self.kernel.unit_block
        if not tail or self.isa.is_bare or not isinstance(self.kernel.numerics, Float32):
            return ()
        phases = tuple(replace(phase, tail=tail) for phase in self.float_phases)
        saved = [p.units * p.parts < self.kernel.unit_block for p in phases]
        return phases if all(saved) else ()

    @property
    def functions(self) -> Sequence[Hashable]:
        """What tells the functions of the directions apart."""
        return self.kernel.op.activations

    @property
    def blocks(self) -> int:
        """Blocks of units in a phase."""
        return self.kernel.padded_hidden // self.kernel.unit_block

    def begin(self, d: Expr) -> Expr:
        """Element at which the weights of a direction begin."""
        return d * (sum(phase.block_elements for phase in self.phases) * self.blocks)

    def write(self) -> None:
        """All directions; one loop where they differ in nothing but their order."""
        op = self.kernel.op
        half = len(self.functions) // op.direction.count
        halves = [self.functions[d * half : (d + 1) * half] for d in range(op.direction.count)]
        if op.direction is Direction.BIDIRECTIONAL and halves[0] == halves[1]:
            with tir.repeat(2) as d:
                self.direction(d, 0, d == 1)
        else:
            for d in range(op.direction.count):
                backward = d == 1 or op.direction is Direction.REVERSE
                self.direction(tir.integer(d), d, tirx.const(backward, "bool"))

    def direction(self, d: Expr, functions: int, backward: Expr) -> None:
        """All sequences of the batch in one direction."""
        kernel = self.kernel
        hidden, batch, steps = kernel.op.hidden, kernel.batch, kernel.steps
        with tir.repeat(batch) as b:
            at = (d * batch + b) * hidden
            for state, initial, goes_on in zip(
                self.memory.states, self.memory.initial, self.arguments.continues, strict=True
            ):
                if initial is not None:
                    copy_elements(initial, at, state, at, hidden, singly=self.isa.is_bare)
                elif not goes_on:
                    fill_zero(state, at, hidden, singly=self.isa.is_bare)

            if self.memory.lengths is None:
                self.sequence(d, functions, b, backward, tir.integer(steps))
                return
            length = tirx.min(tir.integer(steps), self.memory.lengths[b])
            length = tir.name(tirx.max(tir.integer(0), length))
            self.sequence(d, functions, b, backward, length)
            with tir.when(length == 0):
                # As ONNX Runtime does: the final states of an empty sequence are zero.
                for state in self.memory.states:
                    fill_zero(state, at, hidden, singly=self.isa.is_bare)
            y = self.memory.y
            if y is not None:
                with tir.loop(steps - length) as i:
                    start = self.y_start(d, b, length + i)
                    fill_zero(y, start, hidden, singly=self.isa.is_bare)

    def sequence(self, d: Expr, functions: int, b: Expr, backward: Expr, length: Expr) -> None:
        """The frames of one sequence, in order; input products of several frames at once."""

        def time(i: Expr) -> Expr:
            return tirx.Select(backward, length - 1 - i, i)

        kept = KeptStates.of(self, (d * self.kernel.batch + b) * self.kernel.op.hidden)

        def frame(i: Expr, projected: Sequence[Operand | None]) -> None:
            self.frame(d, functions, b, time(i), (self.memory.turn + i) & 1, projected)
            if kept is not None:
                kept.pass_frame(i)

        self.frames(d, b, length, time, frame)
        if kept is not None:
            kept.put_back()

    def frames(
        self,
        d: Expr,
        b: Expr,
        length: Expr,
        time: Callable[[Expr], Expr],
        frame: Callable[[Expr, Sequence[Operand | None]], None],
    ) -> None:
        """`frame(i, its input products)` for every i; `time(i)` is its place in x."""
        projections = self.projections
        if projections is None:
            is_whole = self.memory.lengths is None
            with tir.repeat(self.kernel.steps) if is_whole else tir.loop(length) as i:
                frame(i, [None] * len(self.phases))
            return
        several = projections[0].frames
        buffers = [tir.local(several * projection.elements) for projection in projections]
        chunks = tirx.truncdiv(length + (several - 1), several)
        with tir.loop(chunks) as chunk:
            first = tir.name(chunk * several)
            begin = self.begin(d)
            for projection, buffer in zip(projections, buffers, strict=True):
                xs = []
                for i in range(several):
                    # Beyond the last frame its products are computed again, and not used.
                    t = time(tirx.min(first + i, length - 1))
                    xs.append(Operand(self.memory.x, tir.name(self.x_start(b, t))))
                projection.write(self.memory.weights, begin, xs, buffer)
                begin = begin + projection.phase.block_elements * self.blocks
            with tir.loop(tirx.min(tir.integer(several), length - first)) as i:
                pairs = zip(projections, buffers, strict=True)
                frame(first + i, [Operand(buffer, i * each.elements) for each, buffer in pairs])

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """How the input products of several frames are computed, if that is worth while."""
        phases = self.float_phases
        projections = tuple(Projection(phase, frames_at_once(phases)) for phase in phases)
        size = sum(projection.elements * projection.frames for projection in projections)
        is_worth = (
            self.kernel.steps >= 2 * projections[0].frames
            and any(phase.is_far for phase in phases)
            and 4 * self.kernel.features >= self.kernel.op.hidden
            # Narrower vectors would read every line of weights several times.
            and self.isa.lanes >= self.kernel.unit_block
        )
        return projections if is_worth and size <= PROJECTED_ELEMENTS else None

    def x_start(self, b: Expr, t: Expr) -> Expr:
        """Where frame t of the input begins."""
        return (t * self.kernel.batch + b) * self.kernel.features

    def y_start(self, d: Expr, b: Expr, t: Expr) -> Expr:
        """Where frame t of the output begins."""
        kernel = self.kernel
        return ((t * kernel.op.direction.count + d) * kernel.batch + b) * kernel.op.hidden

    def frame(
        self,
        d: Expr,
        functions: int,
        b: Expr,
        t: Expr,
        is_odd: Expr,
        projected: Sequence[Operand | None],
    ) -> None:
        """One frame of one sequence: all phases, then the new state takes the old one's place."""
        kernel, memory = self.kernel, self.memory
        state = tir.name((d * kernel.batch + b) * kernel.op.hidden)
        x = tir.name(self.x_start(b, t))
        operands = {
            Source.X: Operand(memory.x, x),
            Source.H: Operand(memory.states[0], state),
            Source.RESET_H: self.handed_operand,
        }
        begin = self.begin(d)
        if is_at_once(self):
            write_at_once(self, functions, begin, operands, state, self.y_start(d, b, t))
            return
        for index, phase in enumerate(self.phases):
            first = projected[index]
            streams = phase.streams(
                [
                    None
                    if first is not None and section.source is Source.X
                    else operands[section.source]
                    for section in phase.phase.sections
                ]
            )
            tails = self.tail_phases
            whole = self.blocks - (1 if tails else 0)
            if whole:
                with tir.repeat(whole) as i:
                    # Without a cache nothing is nearer than anything else.
                    turned = i if self.isa.is_bare else tirx.Select(is_odd == 1, whole - 1 - i, i)
                    n = tir.name(turned)
                    self.block(index, phase, functions, begin, n, streams, first, state)
            if tails:
                last = tir.integer(self.blocks - 1)
                self.block(index, tails[index], functions, begin, last, streams, first, state)
            begin = begin + phase.block_elements * self.blocks
        self.commit(state, self.y_start(d, b, t))

    def block(
        self,
        index: int,
        phase: BlockPhase,
        functions: int,
        begin: Expr,
        n: Expr,
        streams: Sequence[Any],
        first: Operand | None,
        state: Expr,
    ) -> None:
        """Block n of a phase: its sums, which may start from products of the frame, and bodies."""
        kernel = self.kernel
        block = tir.name(begin + n * phase.block_elements)
        unit = tir.name(n * kernel.unit_block)
        for part in range(phase.parts):
            start = None
            if first is not None:
                held = first.splits if isinstance(first, Started) else 1
                row = phase.phase.accumulators * kernel.unit_block * held
                start = replace(first, start=tir.name(first.start + n * row))
            sums = phase.sums(self.memory.weights, block, part, streams, start)
            self.finish_part(index, functions, sums, block, unit, part, state, phase.units)

    @property
    def handed_operand(self) -> Operand | None:
        """What an earlier phase handed on for a later one to multiply, of all units."""
        at = handed_operand(self.kernel.cell)
        if at is None:
            return None
        return Operand(self.memory.work, tir.integer((1 + at) * self.kernel.padded_hidden))

    def commit(self, state: Expr, y_start: Expr) -> None:
        """The new hidden state takes the old one's place, and is an output."""
        memory, hidden = self.memory, self.kernel.op.hidden
        targets = [(memory.states[0], state)]
        if memory.y is not None:
            targets.append((memory.y, y_start))
        for target, start in targets:
            copy_elements(
                memory.work, tir.integer(0), target, start, hidden, singly=self.isa.is_bare
            )

    def finish_part(
        self,
        index: int,
        functions: int,
        sums: list[Expr],
        block: Expr,
        unit: Expr,
        part: int,
        state: Expr,
        lanes: int,
    ) -> None:
        """The cell's body for the units that were summed together.

        Without vectors it is a loop over single units: a quarter of the code for a few moves.
        """
        kernel = self.kernel
        is_whole, first = kernel.op.hidden == kernel.padded_hidden, part * lanes
        if lanes == 1 or self.isa.lanes > 1 or not self.isa.is_bare:
            group = UnitGroup(lanes, tir.integer(first), is_whole)
            self.finish(index, functions, sums, block, unit, group, state)
            return
        held = tir.local(len(sums) * lanes)
        for number, values in enumerate(sums):
            tir.store_vector(held, number * lanes, values, lanes)
        with tir.loop(lanes) as i:
            group = UnitGroup(1, first + i, is_whole=True)
            own = [tir.name(held[number * lanes + i]) for number in range(len(sums))]
            with nullcontext() if is_whole else tir.when(unit + group.offset < kernel.op.hidden):
                self.finish(index, functions, own, block, unit, group, state)

    def finish(
        self,
        index: int,
        functions: int,
        sums: list[Expr],
        block: Expr,
        unit: Expr,
        group: UnitGroup,
        state: Expr,
    ) -> None:
        """The cell's body for one group of units."""
        kernel, memory, phase = self.kernel, self.memory, self.phases[index]
        padded, lanes = kernel.padded_hidden, group.lanes
        first = unit + group.offset
        count = None if group.is_whole else tir.name(kernel.op.hidden - first)
        half = len(kernel.op.activations) // kernel.op.direction.count
        peephole = block + (phase.peephole_offset + group.offset)
        nodes = FloatNodes(
            lanes,
            kernel.op.activations[functions * half : (functions + 1) * half],
            kernel.op.clip,
            [
                Slot(memory.weights, peephole + i * kernel.unit_block)
                for i in range(phase.peepholes)
            ],
            self.isa.has_fma and kernel.op.hidden <= SHORT_CHAIN_UNITS,
        )
        names = kernel.cell.handed
        handed = {name: Slot(memory.work, padded * (1 + i) + first) for i, name in enumerate(names)}
        new_h = Slot(memory.work, first)
        unit_memory = self.unit_memory(
            state + first, count, None if group.is_in_place else new_h, handed
        )
        write_body(kernel.cell, index, nodes, sums, unit_memory)

    def unit_memory(
        self, at: Expr, count: Expr | None, new_h: Slot | None, handed: Mapping[str, Slot]
    ) -> UnitMemory:
        """Memory of a group of units: products still read the old h, other states are in place.

        Args:
            at: element of the states at which the group begins.
            count: how many of its units exist, or None for all.
            new_h: where the first state goes for now; None: in its place.
            handed: what phases hand on.
        """
        names = self.kernel.cell.state_names
        states = {
            name: Slot(buffer, at, count)
            for name, buffer in zip(names, self.memory.states, strict=True)
        }
        new = {names[0]: new_h} if new_h is not None else {}
        return UnitMemory({**states, **handed}, {**states, **handed, **new})


def handed_operand(cell: Cell) -> int | None:
    """Which of the handed values a later phase multiplies with R, or None."""
    operands = {term.operand for total in cell.sums for term in total.terms}
    found = [index for index, name in enumerate(cell.handed) if name in operands]
    return found[0] if found else None
