"""Scan of opset 8, whose tensors have a batch axis in front: one Scan of opset 9 for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.ops import Concat
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.sequences import Carried, TensorList
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of


def rows_of_batch(node: OnnxNode) -> list[OnnxNode]:
    """The node for each row of the batch, in the words of opset 9.

    Raises:
        RefusedError: lengths that end before the frames do.
    """
    tensors = [node.operand(place) for place in range(1, len(node.inputs))]
    given = node.integer("num_scan_inputs", 0)
    sequences = tensors[len(tensors) - given :]
    if not sequences or any(len(shape_of(item)) < 2 for item in sequences):
        raise ShapeError(f"{node.origin}: its sequences have no batch axis and no frames")
    batch, length = shape_of(sequences[0])[:2]
    lengths = node.optional(0)
    if lengths is not None and not (isinstance(lengths, Known) and (lengths.data == length).all()):
        raise RefusedError(f"its sequence_lens are not the {length} frames that there are")
    directions = node.int_list("directions") or (0,) * given
    return [
        replace(
            node,
            name=f"{node.name}.{row}",
            opset=9,
            inputs=tuple(_row(node, item, row) for item in tensors),
            attributes={"num_scan_inputs": given, "scan_input_directions": directions},
        )
        for row in range(batch)
    ]


def stacked_batch(node: OnnxNode, rows: Sequence[Sequence[Carried]]) -> list[Operand]:
    """The results of all rows, one behind the other along the batch axis."""
    found: list[Operand] = []
    for items in zip(*rows, strict=True):
        parts = [
            node.reshape(item, (1, *node.extents(item)))
            for item in items
            if not isinstance(item, TensorList)
        ]
        found.append(parts[0] if len(parts) == 1 else node.emit(Concat(0), *parts))
    return found


def _row(node: OnnxNode, x: Operand, row: int) -> Operand:
    taken = take_range(node, x, 0, range(row, row + 1))
    return node.reshape(taken, node.extents(taken)[1:])
