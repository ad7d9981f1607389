"""Functions of quantized kernels, by kind."""

from __future__ import annotations

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import Kernel, RecurrentKernel
from edgelstm_compiler.ir.quantized_kernels import (
    Int8DenseKernel,
    Int8RecurrentKernel,
    IntegerDenseKernel,
    IntegerRecurrentKernel,
    LayerKernel,
    StoredDenseKernel,
    StoredRecurrentKernel,
)
from edgelstm_targets.tvm_cpu.integer_recurrent import integer_recurrent_function
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.quantized_dense import int8_dense_function, integer_dense_function
from edgelstm_targets.tvm_cpu.quantized_recurrent import int8_recurrent_function
from edgelstm_targets.tvm_cpu.recurrent import Arguments
from edgelstm_targets.tvm_cpu.stored_weights import (
    stored_dense_function,
    stored_recurrent_function,
)
from edgelstm_targets.tvm_cpu.tensorir import Function


def state_count(kernel: LayerKernel) -> int:
    """States per direction of a recurrent kernel."""
    if isinstance(kernel, (RecurrentKernel, IntegerRecurrentKernel)):
        return len(kernel.cell.states)
    return len(kernel.layer.cell.states)


def quantized_recurrent_function(
    symbol: str, kernel: LayerKernel, arguments: Arguments, isa: InstructionSet
) -> Function:
    """The function of a quantized recurrent kernel."""
    match kernel:
        case StoredRecurrentKernel():
            return stored_recurrent_function(symbol, kernel, arguments, isa)
        case Int8RecurrentKernel():
            return int8_recurrent_function(symbol, kernel, arguments, isa)
        case IntegerRecurrentKernel():
            return integer_recurrent_function(symbol, kernel, arguments, isa)
    raise CapabilityError(f"the target has no kernel {kernel.kind}")


def quantized_dense_function(
    symbol: str, kernel: Kernel, isa: InstructionSet, *, has_table: bool
) -> Function | None:
    """The function of a quantized dense kernel; None for any other kernel."""
    match kernel:
        case StoredDenseKernel():
            return stored_dense_function(symbol, kernel, isa)
        case Int8DenseKernel():
            return int8_dense_function(symbol, kernel, isa)
        case IntegerDenseKernel():
            return integer_dense_function(symbol, kernel, isa, has_table=has_table)
    return None
