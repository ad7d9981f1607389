"""The workspace of kernels: memory that a call writes before it reads it.

What one column takes depends on the numerics (`numerics.py`), several at once on `columns.py`.
"""

from __future__ import annotations

from edgelstm_compiler.ir.columns import DenseColumns, RecurrentColumns
from edgelstm_compiler.ir.kernels import DenseKernel, Kernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_compiler.ir.program import ScanKernel


def workspace_bytes(kernel: Kernel) -> int:
    """Bytes of a kernel's workspace; 0: it has none."""
    match kernel:
        case RecurrentKernel(columns=1):
            return kernel.numerics.recurrent_workspace(kernel.sizes)
        case RecurrentKernel():
            return RecurrentColumns(kernel).total_bytes(kernel.columns)
        case DenseKernel() if kernel.columns == 1 or isinstance(kernel.numerics, Float32):
            return kernel.numerics.dense_workspace(kernel.features)
        case DenseKernel():
            return DenseColumns(kernel).total_bytes(kernel.columns)
        case ScanKernel():
            return kernel.workspace_bytes
    return 0
