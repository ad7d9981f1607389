"""Input products of several frames at once: weights are read once for all of them.

Where a whole sequence is there, the part of the sums that depends on the frame alone is computed
ahead; only the recurrent weights are then read for every frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import Source
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.matvec import Operand, PackedPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

PROJECTED_ELEMENTS = 8192
"""Most sums that are kept on the stack."""
_MOST_FRAMES = 4


def frames_at_once(phases: Sequence[PackedPhase]) -> int:
    """Frames whose sums fit into three quarters of the registers."""
    sums = max(phase.phase.accumulators for phase in phases)
    return min(_MOST_FRAMES, max(1, phases[0].isa.registers * 3 // 4 // sums))


@dataclass(frozen=True, slots=True)
class Projection:
    """The sums of a phase over its biases and its input section.

    Args:
        phase: the phase.
        frames: computed at once.
    """

    phase: PackedPhase
    frames: int

    @property
    def elements(self) -> int:
        """Sums of a frame: [block][accumulator][unit]."""
        phase = self.phase
        return phase.blocks * phase.phase.accumulators * phase.unit_block

    def write(self, weights: Buffer, begin: Expr, xs: Sequence[Operand], target: Buffer) -> None:
        """Write the loops that compute the sums of all frames.

        Args:
            weights: the packed weights.
            begin: element at which the phase begins.
            xs: the frames.
            target: [frame][block][accumulator][unit].
        """
        phase, lanes = self.phase, min(self.phase.isa.lanes, self.phase.unit_block)
        count, width = phase.phase.accumulators, phase.unit_block
        index = [section.source for section in phase.phase.sections].index(Source.X)
        section, offset = phase.phase.sections[index], phase.section_offset(index)
        row = len(section.gates) * width
        with tir.loop(phase.blocks) as n, tir.loop(width // lanes) as part:
            shift = tir.name(part * lanes)
            block = tir.name(begin + n * phase.block_elements + shift)
            sums = tir.local(count * len(xs) * lanes)
            for accumulator in range(count):
                bias = tir.name(tir.load_vector(weights, block + accumulator * width, lanes))
                for frame in range(len(xs)):
                    sum_at = (frame * count + accumulator) * lanes
                    tir.store_vector(sums, sum_at, bias, lanes)
            with tir.loop(section.extent) as k:
                lines = [
                    tir.name(tir.load_vector(weights, block + offset + k * row + g * width, lanes))
                    for g in range(len(section.gates))
                ]
                for frame, x in enumerate(xs):
                    factor = tir.name(tir.broadcast(x.element(k), lanes))
                    for line, accumulator in zip(lines, section.accumulators, strict=True):
                        sum_at = (frame * count + accumulator) * lanes
                        total = tir.load_vector(sums, sum_at, lanes) + line * factor
                        tir.store_vector(sums, sum_at, total, lanes)
            start = tir.name(n * (count * width) + shift)
            for frame in range(len(xs)):
                for accumulator in range(count):
                    sum_at = (frame * count + accumulator) * lanes
                    at = start + (frame * self.elements + accumulator * width)
                    tir.store_vector(target, at, tir.load_vector(sums, sum_at, lanes), lanes)
