"""Input products of several frames of a run, before those frames are stepped.

Weights that do not stay near are read once for all frames of a group. Every sum is added up as a
step does it, so that a run is as many steps to the bit: in as many sums side by side, in the same
order, from which the step's own loop over h goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_compiler.ir.ops import Direction
from edgelstm_compiler.ir.program import Program, Space
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.streams import PlannedCall
from edgelstm_targets.tvm_cpu.matvec import PackedPhase, Started
from edgelstm_targets.tvm_cpu.recurrent import WEIGHTS, Layer, X, layer_function
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

MOST_ELEMENTS = 16384
"""Sums that are kept on the stack."""
_MOST_FRAMES, _MOST_GROUPS = 6, 4


@dataclass(frozen=True, slots=True)
class Ahead:
    """A recurrent layer whose frames are the model's input.

    Args:
        planned: its call in a step.
        kernel: sizes.
        phases: how the blocks of each phase are packed and summed.
        isa: the instruction set.
    """

    planned: PlannedCall
    kernel: RecurrentKernel
    phases: tuple[PackedPhase, ...]
    isa: InstructionSet

    @property
    def elements(self) -> int:
        """Sums of a frame."""
        return sum(started_elements(phase) * phase.blocks for phase in self.phases)

    @property
    def frames(self) -> int:
        """Frames of a group: their sums fit into three quarters of the registers."""
        sums = max(phase.phase.accumulators for phase in self.phases)
        return min(_MOST_FRAMES, self.isa.registers * 3 // 4 // sums)

    @property
    def groups(self) -> int:
        """Groups whose sums are kept: a block of weights is still near for the later ones."""
        return min(_MOST_GROUPS, MOST_ELEMENTS // (self.elements * self.frames))

    @property
    def input_offset(self) -> int:
        """Byte of an input block at which the frame stands."""
        x = self.planned.call.inputs[X]
        assert x is not None
        return x.offset_bytes

    @property
    def weights_offset(self) -> int:
        """Byte of the weights at which those of the layer stand."""
        weights = self.planned.call.inputs[WEIGHTS]
        assert weights is not None
        return weights.offset_bytes

    @property
    def symbol(self) -> str:
        """The layer's function that goes on from sums."""
        return f"{self.planned.symbol}_ahead"

    @property
    def sums_symbol(self) -> str:
        """The function that computes them."""
        return f"{self.planned.symbol}_sums"


def find_ahead(program: Program, calls: Sequence[PlannedCall], isa: InstructionSet) -> Ahead | None:
    """The layer of which input products are worth being computed ahead, if there is one."""
    if isa.is_bare or program.signature.input_bytes % DType.F32.itemsize:
        return None
    for planned in calls:
        kernel, x = planned.call.kernel, planned.call.inputs[X]
        if not isinstance(kernel, RecurrentKernel) or not isinstance(kernel.numerics, Float32):
            continue
        if x is None or x.space is not Space.INPUT or x.type.dtype is not DType.F32:
            continue
        found = _ahead(planned, kernel, isa)
        if found is not None and found.frames > 1 and found.groups > 0:
            return found
    return None


def _ahead(planned: PlannedCall, kernel: RecurrentKernel, isa: InstructionSet) -> Ahead | None:
    arguments = planned.arguments
    assert arguments is not None
    is_plain = kernel.steps == kernel.batch == kernel.columns == 1 and not arguments.lengths
    if not is_plain or kernel.op.direction is not Direction.FORWARD:
        return None
    # Nothing is loaded of a layer that is only asked what it would do.
    layer = Layer(kernel, arguments, isa, None)  # type: ignore[arg-type]
    phases, tails = layer.float_phases, layer.tail_phases
    is_first = all(phase.phase.sections[0].source is Source.X for phase in phases)
    is_alike = not tails or all(
        isa.splits(phase.phase.accumulators, tail.units) == splits_of(phase)
        for phase, tail in zip(phases, tails, strict=True)
    )
    is_wide = kernel.features >= kernel.op.hidden and all(phase.is_far for phase in phases)
    return Ahead(planned, kernel, phases, isa) if is_first and is_alike and is_wide else None


def splits_of(phase: PackedPhase) -> int:
    """Sums side by side of an accumulator."""
    return phase.isa.splits(phase.phase.accumulators, phase.units)


def started_elements(phase: PackedPhase) -> int:
    """Sums of a block: [accumulator][split][unit]."""
    return phase.phase.accumulators * splits_of(phase) * phase.unit_block


def ahead_functions(ahead: Ahead, program: Program) -> list[Function]:
    """The function that computes sums, and the layer that goes on from them."""
    arguments = ahead.planned.arguments
    assert arguments is not None
    layer = layer_function(
        ahead.symbol, ahead.kernel, replace(arguments, ahead=True), ahead.isa, AheadLayer
    )
    parameters = [
        Parameter("x", "float32"),
        Parameter("weights", "float32"),
        Parameter("groups", "int32", is_pointer=False),
        Parameter("sums", "float32"),
    ]
    stride = program.signature.input_bytes // DType.F32.itemsize

    def body(x: Buffer, weights: Buffer, groups: Expr, sums: Buffer) -> None:
        begin, at = 0, 0
        for phase in ahead.phases:
            _write_phase(ahead, phase, (x, stride), (weights, begin), groups, (sums, at))
            begin += phase.block_elements * phase.blocks
            at += started_elements(phase) * phase.blocks

    return [tir.define(ahead.sums_symbol, parameters, body), layer]


def _write_phase(
    ahead: Ahead,
    phase: PackedPhase,
    given: tuple[Buffer, int],
    packed: tuple[Buffer, int],
    groups: Expr,
    target: tuple[Buffer, int],
) -> None:
    """The sums of a phase, [frame][block][accumulator][split][unit].

    Args:
        ahead: the layer.
        phase: of it.
        given: the input, and elements from frame to frame.
        packed: the weights, and where the phase begins in them.
        groups: of frames.
        target: where the sums go, and which is the phase's first of a frame.
    """
    width, count, several = phase.unit_block, phase.phase.accumulators, ahead.frames
    lanes, splits = min(phase.isa.lanes, width), splits_of(phase)
    section, (x, stride), (weights, begin) = phase.phase.sections[0], given, packed
    row = len(section.gates) * width
    with (
        tir.loop(phase.blocks) as n,
        tir.loop(width // lanes) as part,
        tir.loop(groups) as group,
    ):
        shift = tir.name(part * lanes)
        block = tir.name(begin + n * phase.block_elements + shift)
        rows = tir.name(block + phase.section_offset(0))
        first = tir.name(group * several)
        sums = tir.local(count * several * lanes)

        def offset_of(frame: int, accumulator: int) -> int:
            return (frame * count + accumulator) * lanes

        def add(k: Expr) -> None:
            lines = [
                tir.name(tir.load_vector(weights, rows + (k * row + gate * width), lanes))
                for gate in range(len(section.gates))
            ]
            for frame in range(several):
                element = x[(first + frame) * stride + k]
                factor = tir.name(tir.broadcast(element, lanes))
                for line, accumulator in zip(lines, section.accumulators, strict=True):
                    to = offset_of(frame, accumulator)
                    total = tir.load_vector(sums, to, lanes) + line * factor
                    tir.store_vector(sums, to, total, lanes)

        def begin_at(value_of: Callable[[int], Expr]) -> None:
            for accumulator in range(count):
                value = tir.name(value_of(accumulator))
                for frame in range(several):
                    tir.store_vector(sums, offset_of(frame, accumulator), value, lanes)

        with tir.loop(splits) as split:
            begin_at(lambda _: tir.constant(0.0, lanes))
            with tir.when(split == 0):
                begin_at(lambda a: tir.load_vector(weights, block + a * width, lanes))
            with tir.loop(tirx.truncdiv(section.extent - split + (splits - 1), splits)) as i:
                add(tir.name(i * splits + split))
            for frame in range(several):
                for accumulator in range(count):
                    at = target[1] + (first + frame) * ahead.elements
                    at = at + n * started_elements(phase) + shift
                    at = at + (accumulator * splits + split) * width
                    value = tir.load_vector(sums, offset_of(frame, accumulator), lanes)
                    tir.store_vector(target[0], at, value, lanes)


@dataclass(frozen=True, slots=True)
class AheadLayer(Layer):
    """Writes a layer for one frame whose input products are there."""

    def sequence(self, d: Expr, functions: int, b: Expr, backward: Expr, length: Expr) -> None:
        """The frame."""
        del backward, length
        started = self.memory.ahead
        assert started is not None
        at, operands = 0, []
        for phase in self.float_phases:
            splits = splits_of(phase)
            turned = self.kernel.features % splits if phase.joins_sections else 0
            operands.append(Started(started, tir.integer(at), splits, turned))
            at += started_elements(phase) * phase.blocks
        self.frame(d, functions, b, tir.integer(0), self.memory.turn & 1, operands)
