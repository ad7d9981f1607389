"""Which code a layer has: one writer for each numerics."""

from __future__ import annotations

from collections.abc import Mapping

from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import Float32, Int8, Integer, Numerics, Stored
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.batch.calls import batch_dense_function, batch_layer_function
from edgelstm_targets.tvm_cpu.convolution import rows_function
from edgelstm_targets.tvm_cpu.dense import dense_function
from edgelstm_targets.tvm_cpu.integer_recurrent import IntegerLayer
from edgelstm_targets.tvm_cpu.quantized_dense import int8_dense_function, integer_dense_function
from edgelstm_targets.tvm_cpu.quantized_recurrent import Int8Layer
from edgelstm_targets.tvm_cpu.recurrent import Arguments, Layer, layer_function
from edgelstm_targets.tvm_cpu.stored_weights import StoredLayer, stored_dense_function
from edgelstm_targets.tvm_cpu.tensorir import Function

LAYERS: Mapping[type[Numerics], type[Layer]] = {
    Float32: Layer,
    Stored: StoredLayer,
    Int8: Int8Layer,
    Integer: IntegerLayer,
}
"""What writes the body of a recurrent layer."""


def recurrent_function(
    symbol: str, kernel: RecurrentKernel, arguments: Arguments, isa: InstructionSet
) -> Function:
    """The function of a recurrent kernel."""
    layer = LAYERS[type(kernel.numerics)]
    if kernel.columns > 1:
        return batch_layer_function(symbol, kernel, arguments, isa, layer)
    return layer_function(symbol, kernel, arguments, isa, layer)


def dense_layer_function(
    symbol: str, kernel: DenseKernel, isa: InstructionSet, *, has_table: bool
) -> Function:
    """The function of a dense kernel."""
    if kernel.columns > 1 and isinstance(kernel.numerics, Float32):
        return rows_function(symbol, kernel, isa)
    if kernel.columns > 1:
        return batch_dense_function(symbol, kernel, isa, has_table=has_table)
    match kernel.numerics:
        case Stored():
            return stored_dense_function(symbol, kernel, isa)
        case Int8():
            return int8_dense_function(symbol, kernel, isa)
        case Integer():
            return integer_dense_function(symbol, kernel, isa, has_table=has_table)
    return dense_function(symbol, kernel, isa)
