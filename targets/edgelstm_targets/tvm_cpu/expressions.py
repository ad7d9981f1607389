"""Functions from tensor expressions (TE): one expression per element of the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tvm
from tvm import te, tirx

from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Expr, Function

Element: TypeAlias = Callable[[Sequence[Expr], Sequence[Expr]], Expr]
"""From the inputs (indexed by tuples) and the output's indices to the output's element."""

_SCHEDULED, _TIR = tvm.s_tir.transform, tirx.transform


def te_function(
    name: str, element: Element, inputs: Sequence[TensorType], output: TensorType
) -> Function:
    """A function of pointers to the inputs and the output, in that order."""
    tensors = placeholders(inputs)
    shape = extents(output)
    result = te.compute(shape, lambda *indices: element(tensors, indices), name="result")
    return pointer_function(name, te.create_prim_func([*tensors, result]))


def placeholders(inputs: Sequence[TensorType]) -> list[Expr]:
    """TE tensors of these types; a scalar has one axis of extent 1."""
    return [
        te.placeholder(extents(kind), NAMES[kind.dtype], f"input{index}")
        for index, kind in enumerate(inputs)
    ]


def extents(kind: TensorType) -> tuple[int, ...]:
    """The shape, (1,) for a scalar."""
    return kind.shape or (1,)


def with_names(compute: Callable[[Callable[[Expr], Expr]], Expr]) -> Expr:
    """An expression in which parts are computed once.

    Args:
        compute: makes the expression; receives a function that names a part.
    """
    named: list[tuple[Expr, Expr]] = []

    def name(part: Expr) -> Expr:
        variable = tirx.Var(f"t{len(named)}", part.ty)
        named.append((variable, part))
        return variable

    result = compute(name)
    for variable, part in reversed(named):
        result = tirx.Let(variable, part, result)
    return result


def pointer_function(name: str, function: Function) -> Function:
    """Lower a scheduled function, and give it pointers in place of its buffers.

    TVM has no pass for plain pointers: the buffers are declared upon them in front of the body.
    """
    function = function.with_attr("global_symbol", name).with_attr("tirx.noalias", True)
    module = tvm.ir.transform.Sequential(
        [
            _SCHEDULED.CanonicalizeLoop(),
            _SCHEDULED.LowerInitBlock(),
            _SCHEDULED.PlanAndUpdateBufferAllocationLocation(),
            _SCHEDULED.ConvertBlocksToOpaque(),
            _SCHEDULED.CompactBufferAllocation(),
            _SCHEDULED.LowerMatchBuffer(),
            _SCHEDULED.StmtSimplify(),
            _SCHEDULED.LowerOpaqueBlock(),
        ]
    )(tvm.IRModule({name: function}))
    (lowered,) = module.functions.values()
    pointers, statements = [], []
    for buffer in lowered.params:
        kind = tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)))
        pointer = tirx.Var(f"{buffer.name}_data", kind)
        pointers.append(pointer)
        statements.append(tirx.DeclBuffer(buffer, data=pointer))
    statements += [lowered.body, tirx.stmt.Return(tirx.const(0, "int32"))]
    plain = tirx.PrimFunc(
        pointers,
        tirx.SeqStmt(statements),
        ret_type=tvm.ir.PrimType("int32"),
        attrs=lowered.attrs,
    )
    module = tvm.ir.transform.Sequential([_TIR.FlattenBuffer(), _TIR.StmtSimplify()])(
        tvm.IRModule({name: plain})
    )
    (flat,) = module.functions.values()
    return flat
