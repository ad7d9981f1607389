"""ReverseSequence: the first frames of each row back to front, the others as they are."""

from __future__ import annotations

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import GatherElements
from edgelstm_compiler.onnx_import.frames import FramesDecideError, RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Results, shape_of


def import_reverse_sequence(node: OnnxNode) -> Results:
    """ReverseSequence-10, with constant lengths."""
    x, lengths = node.operand(0), node.operand(1)
    shape = shape_of(x)
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    if len(shape) < 2 or sorted((time, batch)) != [0, 1]:
        raise ModelError(f"{node.origin}: time_axis {time} and batch_axis {batch} of {shape}")
    if not isinstance(lengths, Known):
        raise RefusedError(
            f"its lengths '{lengths.name}' are computed at run time: fix them with --set, or "
            "export the model without lengths"
        )
    extent = node.extents(x)[time]
    if extent is None or not extent.is_fixed:
        raise FramesDecideError("it turns the frames around, and a stream has no last one")
    data = lengths.data
    if data.shape != (shape[batch],) or (data < 0).any() or (data > shape[time]).any():
        raise ShapeError(f"{node.origin}: the lengths {data.tolist()} for {shape}")
    if (data == shape[time]).all():
        return [take_range(node, x, time, range(shape[time] - 1, -1, -1))]
    steps = np.arange(shape[time])[:, None]
    places = np.where(steps < data, data - 1 - steps, steps).astype(np.int64)
    if time == 1:
        places = places.T
    places = np.broadcast_to(places.reshape((*places.shape, *[1] * (len(shape) - 2))), shape)
    return [node.emit(GatherElements(time), x, composing.array(node, "places", places))]
