"""Programs of one integer layer, built by hand."""

from __future__ import annotations

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.ir.quantized_kernels import BytePacking, IntegerDenseKernel
from edgelstm_compiler.lowering.quantized_packing import (
    LayerRows,
    Rows,
    dense_phases,
    integer_form,
    pack_layer,
)
from tests.unit.targets.packing import UNIT_BLOCK, ProgramBuilder


def integer_dense(op, x, w, bias, multiplier, table=None, offset=128) -> Program:
    """A program of one integer dense layer."""
    rows, features = x.shape
    units = len(w)
    kernel = IntegerDenseKernel(
        op,
        rows,
        features,
        units,
        DType.from_numpy(x.dtype),
        BytePacking(UNIT_BLOCK, (offset,)),
    )
    form = integer_form(kernel.packing, has_peepholes=False)
    layer = LayerRows(Rows(w[None, None], multiplier[None, None]), None, bias[None, None], None)
    builder = ProgramBuilder()
    source = builder.input(kernel.x_dtype, x.shape)
    packed = builder.weight(pack_layer(form, dense_phases(features), layer))
    place = None if table is None else builder.weight(table)
    target = builder.output(op.dtype, (rows, units))
    work = builder.temporary((kernel.workspace_bytes,), DType.U8)
    builder.call(kernel, (source, packed, place), (target,), work)
    return builder.build("call")
