"""A dense layer on packed weights as one function."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.kernels import DenseKernel
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand, PackedPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter


def dense_function(name: str, kernel: DenseKernel, isa: InstructionSet) -> Function:
    """The function of a dense kernel; its parameters are x, weights, y."""
    (only,) = kernel.phases
    blocks = -(-kernel.units // kernel.unit_block)
    phase = PackedPhase(only, kernel.unit_block, blocks, 0, isa)
    parameters = [Parameter(key, "float32") for key in ("x", "weights", "y")]
    return tir.define(name, parameters, dense_body(kernel, phase, isa))


def activated(kernel: DenseKernel, isa: InstructionSet, lanes: int, total: Expr) -> Expr:
    """The outputs of some units in floating point, from their sums."""
    if kernel.activation is None:
        return total
    return Functions(lanes, tir.name, isa.has_fma).apply(kernel.activation, total)


def dense_body(
    kernel: DenseKernel, phase: BlockPhase, isa: InstructionSet
) -> Callable[[Buffer, Buffer, Buffer], None]:
    """What writes the body of a dense layer, from its phase."""
    blocks = -(-kernel.units // kernel.unit_block)
    lanes = phase.units

    def body(x: Buffer, weights: Buffer, y: Buffer) -> None:
        with tir.loop(kernel.rows) as row, tir.loop(blocks) as n:
            streams = phase.streams([Operand(x, row * kernel.features)])
            block = tir.name(n * phase.block_elements)
            for part in range(phase.parts):
                (total,) = phase.sums(weights, block, part, streams)
                total = activated(kernel, isa, lanes, total)
                first = n * kernel.unit_block + part * lanes
                count = None
                if kernel.units % kernel.unit_block:
                    count = tir.name(kernel.units - first)
                Slot(y, row * kernel.units + first, count).store(tir.name(total), lanes)

    return body
