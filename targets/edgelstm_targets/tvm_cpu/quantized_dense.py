"""Dense layers of schemes int8 and int8-full on packed bytes, one function each."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.kernels import DenseKernel, Source
from edgelstm_compiler.ir.ops import IntegerDense
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.dense import activated
from edgelstm_targets.tvm_cpu.integer_phase import IntegerVectors
from edgelstm_targets.tvm_cpu.integer_recurrent import IntegerPhase, integer_phase
from edgelstm_targets.tvm_cpu.integer_recurrent import numerics_of as integer_of
from edgelstm_targets.tvm_cpu.integers import integers
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand
from edgelstm_targets.tvm_cpu.quantized_recurrent import FloatVectors, Int8Phase, inverse_start
from edgelstm_targets.tvm_cpu.quantized_recurrent import numerics_of as int8_of
from edgelstm_targets.tvm_cpu.scalar_phase import ScalarPhase
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter

_FLOAT_BYTES = 4


def int8_dense_phase(
    layer: DenseKernel, isa: InstructionSet, weights: Buffer, work: Buffer
) -> Int8Phase:
    """How the sums of an int8 dense layer are computed; x is quantized into `work`."""
    numerics = int8_of(layer)
    (only,) = layer.phases
    inverse = Operand(weights, tir.integer(inverse_start(layer)))
    vectors = FloatVectors(
        work, 0, 0, inverse, numerics.x_dtype, numerics.x_zero_point, h_inverse=1.0
    )
    return Int8Phase(
        only,
        layer.unit_block,
        -(-layer.units // layer.unit_block),
        0,
        isa,
        numerics.weight_offset,
        NAMES[numerics.x_dtype],
        _FLOAT_BYTES,
        vectors,
        compact_form(layer),
    )


def int8_dense_function(name: str, layer: DenseKernel, isa: InstructionSet) -> Function:
    """The function of an int8 dense layer; its parameters are x, weights, y, workspace."""

    def body(x: Buffer, weights: Buffer, y: Buffer, work: Buffer) -> None:
        phase = int8_dense_phase(layer, isa, weights, work)

        def finish(total: Expr) -> Expr:
            return activated(layer, isa, phase.units, total)

        sizes = (layer.rows, layer.features, layer.units)
        _walk(phase, layer.unit_block, sizes, (x, weights, y), finish)

    parameters = [Parameter(key, "float32") for key in ("x", "weights", "y", "work")]
    return tir.define(name, parameters, body)


def integer_dense_phase(
    kernel: DenseKernel, isa: InstructionSet, work: Buffer
) -> IntegerPhase | ScalarPhase:
    """How the sums of an integer dense layer are computed; x is prepared in `work`."""
    numerics, op = integer_of(kernel), integer_dense(kernel)
    (only,) = kernel.phases
    return integer_phase(
        only,
        -(-kernel.units // kernel.unit_block),
        0,
        isa,
        numerics.packing,
        NAMES[numerics.x_dtype],
        IntegerVectors(work, 0, 0),
        (op.x_shift, 0, op.sum_shift),
        bounded=frozenset({Source.X} if numerics.is_x_bounded else ()),
    )


def integer_dense(kernel: DenseKernel) -> IntegerDense:
    """The operator of an integer dense layer."""
    op = integer_of(kernel).op
    assert isinstance(op, IntegerDense)
    return op


def integer_outputs(
    kernel: DenseKernel, isa: InstructionSet, lanes: int, table: Buffer | None, total: Expr
) -> Expr:
    """The outputs of some units in integers, from their sums."""
    op, numbers = integer_dense(kernel), integers(lanes, isa)
    if table is not None:
        found = numbers.look_up(table, 0, numbers.saturated(total))
        total = numbers.plain(numbers.unit(found)) if op.is_unit else numbers.wide(found)
    return numbers.narrowed_to(NAMES[op.dtype], numbers.clamp(total, op.low, op.high))


def integer_dense_function(
    name: str, kernel: DenseKernel, isa: InstructionSet, *, has_table: bool
) -> Function:
    """The function of an integer dense layer: x, weights, table if there is one, y, workspace."""

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        *tables, y, work = rest
        phase = integer_dense_phase(kernel, isa, work)

        def finish(total: Expr) -> Expr:
            return integer_outputs(kernel, isa, phase.units, tables[0] if tables else None, total)

        sizes = (kernel.rows, kernel.features, kernel.units)
        _walk(phase, kernel.unit_block, sizes, (x, weights, y), finish)

    dtypes = dense_types(kernel)
    order = ("x", "weights", *(("table",) if has_table else ()), "y", "work")
    return tir.define(name, [Parameter(key, dtypes[key]) for key in order], body)


def dense_types(kernel: DenseKernel) -> dict[str, str]:
    """TVM's names of the element types of an integer layer's buffers."""
    numerics, op = integer_of(kernel), integer_dense(kernel)
    return {
        "x": NAMES[numerics.x_dtype],
        "weights": "float32",
        "table": "int16",
        "y": NAMES[op.dtype],
        "work": "float32",
    }


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
