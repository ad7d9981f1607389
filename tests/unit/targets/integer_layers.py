"""Programs of one integer layer, built by hand."""

from __future__ import annotations

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.kernels import DenseKernel
from edgelstm_compiler.ir.numerics import BytePacking, Integer
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.ir.workspace import workspace_bytes
from edgelstm_compiler.lowering.compact_layout import form_of
from edgelstm_compiler.lowering.layer_rows import (
    LayerRows,
    Rows,
    pack_layer,
)
from tests.unit.targets.packing import UNIT_BLOCK, ProgramBuilder


def integer_dense(op, x, w, bias, multiplier, table=None, offset=128) -> Program:
    """A program of one integer dense layer."""
    rows, features = x.shape
    units = len(w)
    numerics = Integer(op, DType.from_numpy(x.dtype), BytePacking(UNIT_BLOCK, (offset,)))
    kernel = DenseKernel(rows, features, units, None, UNIT_BLOCK, numerics)
    layer = LayerRows(Rows(w[None, None], multiplier[None, None]), None, bias[None, None], None)
    builder = ProgramBuilder()
    source = builder.input(numerics.x_dtype, x.shape)
    packed = builder.weight(pack_layer(form_of(kernel), kernel.phases, layer))
    place = None if table is None else builder.weight(table)
    target = builder.output(op.dtype, (rows, units))
    work = builder.temporary((workspace_bytes(kernel),), DType.U8)
    builder.call(kernel, (source, packed, place), (target,), work)
    return builder.build("call")
