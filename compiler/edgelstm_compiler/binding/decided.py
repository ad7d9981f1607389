"""Where the number of frames decides what a model computes, and so what is its time is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgelstm.errors import ModelError
from edgelstm_compiler.binding.dimensions import Trial, example_shapes, keys_of, shapes_of
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Slice
from edgelstm_compiler.onnx_import.frames import FrameCountError
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.refusal import call_instead, refuse


def expect_frames_do_not_decide(
    model: OnnxModel, given: Mapping[str, Sequence[int]], trial: Trial
) -> None:
    """Say so where an axis is lost to time only because its extent decides something.

    Raises:
        StreamabilityError: naming the nodes.
    """
    free = [
        (info.name, axis)
        for info in model.inputs
        for axis, key in keys_of(info, given)
        if trial[key] > 1
    ]
    frames = min(trial[key] for key in trial if trial[key] > 1)
    same = {key: frames if extent > 1 else 1 for key, extent in trial.items()}
    for time in ([item] for item in free):
        advice = call_instead(example_shapes(model.inputs, time))
        try:
            graph = import_graph(model, shapes_of(model.inputs, given, same), time=time)
        except FrameCountError as error:
            raise refuse(error.reasons, advice) from error
        except ModelError:
            continue
        crops = _crops(model, given, graph, time[0])
        if crops:
            raise refuse(crops, advice)


def _crops(
    model: OnnxModel, given: Mapping[str, Sequence[int]], graph: Graph, time: tuple[str, int]
) -> list[tuple[str, str]]:
    """Where the newest of a free number of elements are taken, and something walks along them."""
    name, axis = time
    classes = AxisClasses(graph)
    value = next(value for value in graph.inputs if value.name == name)
    info = next(info for info in model.inputs if info.name == name)
    key = next(key for place, key in keys_of(info, given) if place == axis)
    count = key if isinstance(key, str) else f"axis {axis} of {name}"
    found = []
    for node in graph.nodes:
        source, op = node.inputs[0], node.op
        if not isinstance(op, Slice) or source is None:
            continue
        if classes.are_one((value, axis), (source, op.axis)):
            start = op.start - source.type.shape[op.axis]
            reason = (
                f"it takes [{start}:] of {count}, and a layer walks along them: what it begins "
                "with changes with every frame, and a stream has no fixed beginning"
            )
            found.append((node.origin or node.name, reason))
    return found
