"""Dense layers of schemes int8 and int8-full on packed bytes, one function each."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.kernels import DenseKernel, Source
from edgelstm_compiler.ir.ops import IntegerDense
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.integer_phase import IntegerVectors
from edgelstm_targets.tvm_cpu.integer_recurrent import integer_phase
from edgelstm_targets.tvm_cpu.integer_recurrent import numerics_of as integer_of
from edgelstm_targets.tvm_cpu.integers import integers
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand
from edgelstm_targets.tvm_cpu.quantized_recurrent import FloatVectors, Int8Phase, inverse_start
from edgelstm_targets.tvm_cpu.quantized_recurrent import numerics_of as int8_of
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter

_FLOAT_BYTES = 4


def int8_dense_function(name: str, layer: DenseKernel, isa: InstructionSet) -> Function:
    """The function of an int8 dense layer; its parameters are x, weights, y, workspace."""
    numerics = int8_of(layer)
    (only,) = layer.phases
    blocks = -(-layer.units // layer.unit_block)

    def body(x: Buffer, weights: Buffer, y: Buffer, work: Buffer) -> None:
        inverse = Operand(weights, tir.integer(inverse_start(layer)))
        vectors = FloatVectors(
            work, 0, 0, inverse, numerics.x_dtype, numerics.x_zero_point, h_inverse=1.0
        )
        phase = Int8Phase(
            only,
            layer.unit_block,
            blocks,
            0,
            isa,
            numerics.weight_offset,
            NAMES[numerics.x_dtype],
            _FLOAT_BYTES,
            vectors,
            compact_form(layer),
        )

        def finish(total: Expr) -> Expr:
            if layer.activation is None:
                return total
            return Functions(phase.units, tir.name).apply(layer.activation, total)

        sizes = (layer.rows, layer.features, layer.units)
        _walk(phase, layer.unit_block, sizes, (x, weights, y), finish)

    parameters = [Parameter(key, "float32") for key in ("x", "weights", "y", "work")]
    return tir.define(name, parameters, body)


def integer_dense_function(
    name: str, kernel: DenseKernel, isa: InstructionSet, *, has_table: bool
) -> Function:
    """The function of an integer dense layer: x, weights, table if there is one, y, workspace."""
    numerics = integer_of(kernel)
    op = numerics.op
    assert isinstance(op, IntegerDense)
    (only,) = kernel.phases
    block = kernel.unit_block
    blocks = -(-kernel.units // block)

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        *tables, y, work = rest
        phase = integer_phase(
            only,
            blocks,
            0,
            isa,
            numerics.packing,
            NAMES[numerics.x_dtype],
            IntegerVectors(work, 0, 0),
            (op.x_shift, 0, op.sum_shift),
            bounded=frozenset({Source.X} if numerics.is_x_bounded else ()),
        )
        numbers = integers(phase.units, isa)

        def finish(total: Expr) -> Expr:
            if tables:
                found = numbers.look_up(tables[0], 0, numbers.saturated(total))
                total = numbers.plain(numbers.unit(found)) if op.is_unit else numbers.wide(found)
            return numbers.narrowed_to(NAMES[op.dtype], numbers.clamp(total, op.low, op.high))

        sizes = (kernel.rows, kernel.features, kernel.units)
        _walk(phase, block, sizes, (x, weights, y), finish)

    dtypes = {"x": NAMES[numerics.x_dtype], "weights": "float32", "y": NAMES[op.dtype]}
    dtypes |= {"table": "int16", "work": "float32"}
    order = ("x", "weights", *(("table",) if has_table else ()), "y", "work")
    return tir.define(name, [Parameter(key, dtypes[key]) for key in order], body)


def _walk(
    phase: BlockPhase,
    width: int,
    sizes: tuple[int, int, int],
    buffers: tuple[Buffer, Buffer, Buffer],
    finish: Callable[[Expr], Expr],
) -> None:
    """All rows, all blocks.

    Args:
        phase: of the layer.
        width: units of a block.
        sizes: rows, features, units.
        buffers: x, weights, y.
        finish: from the sums of some units to their outputs.
    """
    rows, features, units = sizes
    x, weights, y = buffers
    lanes, blocks = phase.units, -(-units // width)
    with tir.loop(rows) as row:
        streams = phase.streams([Operand(x, row * features)])
        with tir.loop(blocks) as n:
            block = tir.name(n * phase.block_elements)
            for part in range(phase.parts):
                (total,) = phase.sums(weights, block, part, streams)
                first = n * width + part * lanes
                count = tir.name(units - first) if units % width else None
                Slot(y, row * units + first, count).store(tir.name(finish(total)), lanes)
