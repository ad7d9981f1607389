"""Input products of frames that all columns read: computed once, begun with by every column.

Windows that overlap are streams that read the same frames, each at a place of its own. A layer that
reads a frame as it comes adds W x first; that sum, biases included, is the same for all of them.
The additions and their order are those of a layer on its own: so are the bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.columns import lines
from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_compiler.ir.ops import Direction
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.shape import for_columns
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory, FloatTile
from edgelstm_targets.tvm_cpu.batch.walk import write_tiles
from edgelstm_targets.tvm_cpu.layers import LAYERS
from edgelstm_targets.tvm_cpu.matvec import PackedPhase
from edgelstm_targets.tvm_cpu.recurrent import Arguments, Memory
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_WORD = 4


def can_project(kernel: RecurrentKernel, arguments: Arguments) -> bool:
    """Whether a layer's input products can stand apart from the rest of it."""
    return (
        isinstance(kernel.numerics, Float32)
        and kernel.steps == kernel.batch == 1
        and kernel.op.direction is Direction.FORWARD
        and not arguments.lengths
    )


def projected_bytes(kernel: RecurrentKernel) -> int:
    """Of the sums of one frame: [phase][block][accumulator][unit]."""
    sums = sum(phase.accumulators for phase in kernel.phases)
    return lines(_WORD * sums * kernel.padded_hidden)


@dataclass(frozen=True, slots=True)
class ProjectionOfFrames:
    """The input products of a layer, of many frames.

    Args:
        kernel: sizes and attributes.
        arguments: which buffers there are.
        input_bytes: from one frame to the next.
        stride_bytes: from the sums of one frame to those of the next.
    """

    kernel: RecurrentKernel
    arguments: Arguments
    input_bytes: int
    stride_bytes: int

    def function(self, name: str, isa: InstructionSet) -> Function:
        """Its parameters: x of the first frame, weights, the sums, how many frames."""

        def body(x: Buffer, weights: Buffer, sums: Buffer, count: Expr) -> None:
            kernel, states = self.kernel, len(self.kernel.cell.states)
            nothing = (None,) * states
            memory = Memory(x, weights, None, nothing, None, (x,) * states, x, tir.integer(0))
            layer = LAYERS[type(kernel.numerics)](kernel, self.arguments, for_columns(isa), memory)
            begin, start = layer.begin(tir.integer(0)), 0
            for phase in layer.phases:
                assert isinstance(phase, PackedPhase)
                self._write_phase(phase, x, weights, begin, tir.behind(sums, start), count)
                begin = begin + phase.block_elements * layer.blocks
                start += phase.phase.accumulators * kernel.padded_hidden

        kinds = ("x", "weights", "sums")
        parameters = [*(Parameter(key, "float32") for key in kinds)]
        return tir.define(name, [*parameters, Parameter("count", "int32", is_pointer=False)], body)

    def _write_phase(
        self,
        phase: PackedPhase,
        x: Buffer,
        weights: Buffer,
        begin: Expr,
        sums: Buffer,
        count: Expr,
    ) -> None:
        lanes, width = phase.units, phase.unit_block
        accumulators = phase.phase.accumulators
        factors = tuple(0 if each.source is Source.X else None for each in phase.phase.sections)
        tile = FloatTile(phase, ColumnMemory(x, self.input_bytes), factors)
        with tir.loop(-(-self.kernel.op.hidden // lanes)) as group:
            n = tir.name(tirx.truncdiv(group, phase.parts)) if phase.parts > 1 else group
            shift = tir.name((group - n * phase.parts) * lanes)

            def finish(frame: Expr, held: Buffer, place: Expr) -> None:
                row = tir.name(frame * (self.stride_bytes // _WORD))
                at = tir.name(row + n * (accumulators * width) + shift)
                for accumulator in range(accumulators):
                    own = place * tile.held_elements + accumulator * lanes
                    value = tir.load_vector(held, own, lanes)
                    tir.store_vector(sums, at + accumulator * width, value, lanes)

            block = tir.name(begin + n * phase.block_elements)
            write_tiles(tile, count, weights, block, shift, finish)
