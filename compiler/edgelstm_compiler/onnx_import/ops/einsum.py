"""Einsum: products of tensors by names of axes, as transpositions, sums and one matrix product."""

from __future__ import annotations

import math

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.ops import MatMul, Reduction
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, Results, shape_of


def import_einsum(node: OnnxNode) -> Results:
    """Einsum-12: one operand or more, folded from the left; an axis named twice is refused."""
    equation = node.text("equation", "").replace(" ", "")
    operands = [node.operand(index) for index in range(len(node.inputs))]
    terms, result = _read(node, equation, operands)
    current, names = operands[0], terms[0]
    for index in range(1, len(operands)):
        later = set(result).union(*terms[index + 1 :])
        current, names = _product(node, current, names, operands[index], terms[index], later)
    current, names = _summed(node, current, names, set(result))
    return [node.transpose(current, [names.index(name) for name in result])]


def _read(node: OnnxNode, equation: str, operands: list[Operand]) -> tuple[list[str], str]:
    """The names of the operands' axes and of the result's; "..." becomes capital letters."""
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"{node.origin}: the equation {equation!r} has {len(terms)} operands")
    check_float(*operands)
    hidden = 0
    for term, operand in zip(terms, operands, strict=True):
        if "..." in term:
            hidden = max(hidden, len(shape_of(operand)) - len(term.replace("...", "")))
    spare = [chr(0x100 + k) for k in range(hidden)]
    spread = []
    for term, operand in zip(terms, operands, strict=True):
        count = len(shape_of(operand)) - len(term.replace("...", ""))
        spread.append(term.replace("...", "".join(spare[hidden - max(count, 0) :])))
    if not arrow:
        every = "".join(spread)
        result = "".join(sorted({name for name in every if every.count(name) == 1} - set(spare)))
        result = "".join(spare) + result
    result = result.replace("...", "".join(spare))
    extents: dict[str, int] = {}
    for term, operand in zip(spread, operands, strict=True):
        if len(term) != len(shape_of(operand)):
            raise ShapeError(f"{node.origin}: {equation!r} does not fit {shape_of(operand)}")
        if len(set(term)) != len(term):
            raise RefusedError(f"the equation {equation!r} names an axis twice (a diagonal)")
        for name, extent in zip(term, shape_of(operand), strict=True):
            if extents.setdefault(name, extent) != extent:
                if name in spare:
                    raise RefusedError(f"{equation!r} repeats an axis of extent 1")
                raise ShapeError(f"{node.origin}: {equation!r} with extents that differ")
    if len(set(result)) != len(result) or not set(result) <= set(extents):
        raise ShapeError(f"{node.origin}: the equation {equation!r} has no such result")
    return spread, result


def _summed(node: OnnxNode, x: Operand, names: str, kept: set[str]) -> tuple[Operand, str]:
    """Axes that nobody asks for any more are summed up."""
    axes = [axis for axis, name in enumerate(names) if name not in kept]
    total = composing.reduce(node, Reduction.SUM, x, axes)
    rest = "".join(name for name in names if name in kept)
    return composing.without_axes(node, total, axes), rest


def _product(
    node: OnnxNode, a: Operand, a_names: str, b: Operand, b_names: str, later: set[str]
) -> tuple[Operand, str]:
    """Two operands: axes of both that are asked for are batch, the other common ones are summed."""
    a, a_names = _summed(node, a, a_names, later | set(b_names))
    b, b_names = _summed(node, b, b_names, later | set(a_names))
    batch = [name for name in a_names if name in b_names and name in later]
    inner = [name for name in a_names if name in b_names and name not in later]
    left = [name for name in a_names if name not in b_names]
    right = [name for name in b_names if name not in a_names]
    extents = dict(zip(a_names, shape_of(a), strict=True)) | dict(
        zip(b_names, shape_of(b), strict=True)
    )

    def size(names: list[str]) -> int:
        return math.prod(extents[name] for name in names)

    a = node.transpose(a, [a_names.index(name) for name in batch + left + inner])
    b = node.transpose(b, [b_names.index(name) for name in batch + inner + right])
    a = node.reshape(a, (size(batch), size(left), size(inner)))
    b = node.reshape(b, (size(batch), size(inner), size(right)))
    names = batch + left + right
    product = node.emit(MatMul(), a, b)
    return node.reshape(product, [extents[name] for name in names]), "".join(names)
