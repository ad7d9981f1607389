"""The general matrix product, on tensors computed at run time."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te
from tvm.s_tir import Schedule

from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu.expressions import extents, placeholders, pointer_function
from edgelstm_targets.tvm_cpu.layout import broadcast_index
from edgelstm_targets.tvm_cpu.tensorir import Expr, Function


def matmul_function(name: str, a: TensorType, b: TensorType, output: TensorType) -> Function:
    """A @ B with NumPy's rules; its parameters are A, B and the product."""
    first, second = placeholders((a, b))
    depth = a.shape[-1]
    k = te.reduce_axis((0, depth), "k")
    rows, columns = int(a.rank > 1), int(b.rank > 1)

    def element(*indices: Expr) -> Expr:
        batch = indices[: output.rank - rows - columns]
        row = indices[len(batch) : len(batch) + rows]
        column = indices[len(batch) + rows :][:columns]
        return te.sum(
            first[(*_batch(a, batch), *row, k)] * second[(*_batch(b, batch), k, *column)],
            axis=k,
        )

    product = te.compute(extents(output), element, name="product")
    schedule = Schedule(te.create_prim_func([first, second, product]))
    block = schedule.get_sblock("product")
    if columns and output.shape[-1] > 1:
        # The columns innermost: they lie side by side in B and in the product.
        *outer, column, inner = schedule.get_loops(block)
        schedule.reorder(*outer, inner, column)
        schedule.decompose_reduction(block, inner)
    return pointer_function(name, schedule.mod["main"])


def _batch(operand: TensorType, indices: Sequence[Expr]) -> tuple[Expr, ...]:
    shape = operand.shape[:-2]
    if not shape:
        return ()
    whole = TensorType(operand.dtype, shape)
    return broadcast_index(whole, whole, indices)
