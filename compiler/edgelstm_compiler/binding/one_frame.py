"""Models exported with one frame: which axis of extent one is time.

Where a model holds a single frame, its axes of extent one can be told apart no more. So it is
imported once more with more frames, one axis of each input after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import InputInfo, OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.convert import to_steps

_MAX_CHOICES = 64


def has_one_frame(graph: Graph) -> bool:
    """Whether all recurrent layers run over a single frame."""
    lengths = {
        value.type.shape[0]
        for node in graph.nodes
        if isinstance(node.op, Recurrent)
        for value in node.inputs[:1]
        if value is not None
    }
    return lengths == {1}


def with_more_frames(model: OnnxModel, graph: Graph, frames: int) -> Graph | None:
    """The same model over more frames, where some axes of its inputs are its time; else None.

    Args:
        model: the model.
        graph: its import with one frame.
        frames: how many to try.
    """
    shapes = {value.name: value.type.shape for value in graph.inputs}
    for axes in itertools.islice(_choices(model.inputs, shapes), _MAX_CHOICES):
        time = [(name, axis) for name, axis in axes.items() if axis is not None]
        grown = dict(shapes)
        for name, axis in time:
            grown[name] = (*shapes[name][:axis], frames, *shapes[name][axis + 1 :])
        free = tuple(replace(info, dims=(None,) * len(shapes[info.name])) for info in model.inputs)
        try:
            found = import_graph(replace(model, inputs=free), grown, time=time)
            classes = AxisClasses(found)
            if all(
                classes.time_axes(value)
                == (() if axes[value.name] is None else (axes[value.name],))
                for value in found.inputs
            ):
                step = to_steps(found)
                shown = [output.value.type for output in step.outputs]
                if shown == [output.value.type for output in graph.outputs]:
                    return found
        except ModelError:
            continue
    return None


def _choices(
    inputs: Sequence[InputInfo], shapes: dict[str, tuple[int, ...]]
) -> Iterator[dict[str, int | None]]:
    """An axis of extent one of every input, or none, but not of all of them none."""
    names = [info.name for info in inputs]
    ones: list[list[int | None]] = [
        [*(axis for axis, extent in enumerate(shapes[name]) if extent == 1), None] for name in names
    ]
    for choice in itertools.product(*ones):
        if any(axis is not None for axis in choice):
            yield dict(zip(names, choice, strict=True))
