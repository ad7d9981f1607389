"""Gives every free dimension of a model a number: time, batch, or what the user must tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import InputInfo, OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses

Shapes = dict[str, tuple[int, ...]]
_Key = str | tuple[str, int]

# Trial extents: primes, so that no product of others looks like one of them.
_PRIMES = (11, 13, 17, 19, 23, 29, 31, 37, 41, 43)


@dataclass(frozen=True, slots=True)
class Binding:
    """A model with all its dimensions as numbers.

    Args:
        graph: imported with these shapes.
        shapes: of every input.
        free_time: `(input, axis)` whose extent may be any number of frames; empty where the model
            has one fixed length.
    """

    graph: Graph
    shapes: Shapes
    free_time: tuple[tuple[str, int], ...] = ()

    def shapes_for(self, steps: int) -> Shapes:
        """The shapes for another number of frames."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        for name, axis in self.free_time:
            shapes[name][axis] = steps
        return {name: tuple(shape) for name, shape in shapes.items()}


def bind_call(model: OnnxModel, given: Mapping[str, Sequence[int]]) -> Binding:
    """For one whole call: every free dimension must be given.

    Raises:
        ShapeError: one is not, or contradicts the model.
    """
    graph = import_graph(model, given)
    return Binding(graph, {value.name: value.type.shape for value in graph.inputs})


def bind_stream(model: OnnxModel, given: Mapping[str, Sequence[int]]) -> Binding:
    """For a stream: free time stays free, a free batch is one stream.

    Raises:
        ShapeError: a free dimension that is neither and is not given, or a contradiction.
        ModelError: the model cannot be imported.
    """
    keys = _free_keys(model.inputs, given)
    if not keys:
        return bind_call(model, given)
    failure: ModelError | None = None
    for trial in _trials(keys):
        try:
            graph = import_graph(model, _shapes(model.inputs, given, trial))
        except ShapeError as error:
            failure = failure or error
            continue
        return _settle(model, given, trial, graph)
    assert failure is not None
    raise failure


def _settle(
    model: OnnxModel, given: Mapping[str, Sequence[int]], trial: Mapping[_Key, int], graph: Graph
) -> Binding:
    """Read off a trial import what each free dimension is, and import with the batch at one."""
    axes = AxisClasses(graph)
    values = {value.name: value for value in graph.inputs}
    final = dict(trial)
    free_time: list[tuple[str, int]] = []
    unknown: list[str] = []
    for info in model.inputs:
        if info.name not in values:
            continue
        value = values[info.name]
        for axis, key in _keys_of(info, given):
            if axis in axes.time_axes(value):
                free_time.append((info.name, axis))
            elif axis == axes.batch_axis(value) or trial[key] == 1:
                final[key] = 1
            else:
                unknown.append(f"axis {axis} of {info}")
    if unknown:
        raise ShapeError(
            f"these dimensions are neither time nor batch of a recurrent layer: "
            f"{'; '.join(unknown)}. Give them: --shape NAME=EXTENT,EXTENT,..."
        )
    if final != trial:
        graph = import_graph(model, _shapes(model.inputs, given, final))
    shapes = {value.name: value.type.shape for value in graph.inputs}
    return Binding(graph, shapes, tuple(free_time))


def _free_keys(inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]]) -> list[_Key]:
    """The free dimensions, those of one name once."""
    keys: list[_Key] = []
    for info in inputs:
        keys += [key for _, key in _keys_of(info, given) if key not in keys]
    return keys


def _keys_of(info: InputInfo, given: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, _Key]]:
    if info.name in given or info.dims is None:
        return
    for axis, dim in enumerate(info.dims):
        if isinstance(dim, str):
            yield axis, dim
        elif dim is None:
            yield axis, (info.name, axis)


def _trials(keys: Sequence[_Key]) -> Iterator[dict[_Key, int]]:
    """First all free dimensions differ; then each in turn is one, as a baked-in batch wants."""
    primes = {key: _PRIMES[index % len(_PRIMES)] for index, key in enumerate(keys)}
    yield primes
    for key in keys:
        yield {**primes, key: 1}


def _shapes(
    inputs: Sequence[InputInfo], given: Mapping[str, Sequence[int]], extents: Mapping[_Key, int]
) -> Shapes:
    shapes = {name: tuple(shape) for name, shape in given.items()}
    for info in inputs:
        if info.name in given or info.dims is None or info.is_static:
            continue
        chosen = dict(_keys_of(info, given))
        shapes[info.name] = tuple(
            extents[chosen[axis]] if axis in chosen else int(dim or 0)
            for axis, dim in enumerate(info.dims)
        )
    return shapes
