"""A model with states as inputs, bound for one call a step: its shapes, its pairs, its overlaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.binding.dimensions import (
    Shapes,
    Trial,
    free_keys,
    keys_of,
    next_trials,
    shapes_of,
)
from edgelstm_compiler.binding.memory import expect_small
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.onnx_import.exposed_inputs import are_all_exposed, defaults_of, expose_inputs
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.carry import (
    Carried,
    CarriedState,
    CarryRequest,
    Overlap,
    Pairing,
    find_pairs,
)
from edgelstm_compiler.streaming.carry.pairing import fits
from edgelstm_compiler.streaming.carry.wiring import Wiring

_MOST_TRIALS = 20


class CarriedModel:
    """A model and what was found in it.

    Attributes:
        model: with the inputs asked for that have a default and are states.
        graph: its import at the shapes of one step.
        pairing: the pairs, and why.
        carried: the same with initial values and overlaps.
        notes: what the user should know, a sentence each.
    """

    __slots__ = ("carried", "graph", "model", "notes", "pairing")

    def __init__(
        self,
        model: OnnxModel,
        graph: Graph,
        pairing: Pairing,
        carried: Carried,
        notes: tuple[str, ...],
    ) -> None:
        self.model, self.graph, self.pairing = model, graph, pairing
        self.carried, self.notes = carried, notes

    @property
    def shapes(self) -> Shapes:
        """Of every input."""
        return {value.name: value.type.shape for value in self.graph.inputs}


def find_carried(
    model: OnnxModel, given: Mapping[str, Sequence[int]], request: CarryRequest
) -> CarriedModel | None:
    """The pairs of a model and the shapes of a step; None where it has none and nothing is asked.

    Raises:
        ModelError: what was asked does not fit the model; or it cannot be imported, and something
            was asked.
        AmbiguousStatesError: several ways are equally good.
    """
    if request.is_off:
        return None
    defaults = defaults_of(model)
    if not request.says_something and len(model.inputs) + len(defaults) < 2:
        return None
    named = [name for name in request.pairs if name in defaults]
    exposed = expose_inputs(model, named)
    try:
        graph, free = _import_step(exposed, given)
    except ModelError:
        if request.says_something:
            raise
        return None
    stored = [
        name
        for name, data in defaults.items()
        if name not in named and any(_fits(data, output.value) for output in graph.outputs)
    ]
    if stored:
        exposed = expose_inputs(model, (*named, *stored))
        graph = import_graph(exposed, {value.name: value.type.shape for value in graph.inputs})
    overlapped = [name.partition("@")[0] for name in request.overlap if name]
    if request.is_complete:
        overlapped = [v.name for v in graph.inputs if v.name not in request.pairs]
    are_weights = are_all_exposed(model)
    pairing = find_pairs(
        graph,
        request.pairs,
        overlapped,
        barely=stored if are_weights else (),
        likely=() if are_weights else stored,
    )
    unpaired = set(stored) & set(pairing.free)
    if unpaired:
        exposed = expose_inputs(model, [n for n in (*named, *stored) if n not in unpaired])
        shapes = {v.name: v.type.shape for v in graph.inputs if v.name not in unpaired}
        graph = import_graph(exposed, shapes)
    if not pairing.pairs and not request.says_something:
        return None
    expect_small(graph)
    carried = Carried(
        tuple(
            CarriedState(pair, *_initial(graph, pair.before, defaults)) for pair in pairing.pairs
        ),
        _overlaps(graph, pairing, request),
    )
    notes = (*_free_notes(free, pairing), *_notes(pairing, carried), *_begun(graph, pairing))
    return CarriedModel(exposed, graph, pairing, carried, notes)


def _import_step(
    model: OnnxModel, given: Mapping[str, Sequence[int]]
) -> tuple[Graph, Mapping[str, Sequence[int]]]:
    """The import with every free dimension at one, or at what the model contradicts that with.

    Returns:
        The graph, and by input the free axes that are one.
    """
    keys = free_keys(model.inputs, given)
    if not keys:
        return import_graph(model, given), {}
    waiting: deque[Trial] = deque([dict.fromkeys(keys, 1)])
    seen: list[Trial] = []
    failure: ShapeError | None = None
    while waiting and len(seen) < _MOST_TRIALS:
        trial = waiting.popleft()
        if trial in seen:
            continue
        seen.append(trial)
        try:
            graph = import_graph(model, shapes_of(model.inputs, given, trial))
        except UnsupportedOpError:
            raise
        except ShapeError as error:
            failure = failure or error
            waiting.extend(next_trials(str(error), trial, model.inputs))
            continue
        free = {
            info.name: [axis for axis, key in keys_of(info, given) if trial[key] == 1]
            for info in model.inputs
        }
        return graph, free
    assert failure is not None
    raise ShapeError(
        f"{failure}. The model has free dimensions, which were taken for one: give the shapes of "
        "one step, --shape NAME=EXTENT,..."
    ) from failure


def _fits(data: Array, value: Value) -> bool:
    kind = value.type
    return fits(kind.with_shape(data.shape), kind) and data.dtype == kind.dtype.numpy


def _initial(graph: Graph, name: str, defaults: Mapping[str, Array]) -> tuple[Array, bool]:
    kind = next(value.type for value in graph.inputs if value.name == name)
    if name in defaults:
        return defaults[name], True
    return np.zeros(kind.shape, kind.dtype.numpy), False


def _overlaps(graph: Graph, pairing: Pairing, request: CarryRequest) -> tuple[Overlap, ...]:
    values = {value.name: value for value in graph.inputs}
    axes = AxisClasses(graph)
    found = []
    for asked, count in request.overlap.items():
        name, _, place = asked.partition("@")
        if not name:
            if len(pairing.free) != 1:
                raise ModelError(
                    f"--overlap {count}: the model has {len(pairing.free)} inputs that are no "
                    f"states ({', '.join(pairing.free) or 'none'}); say which: "
                    f"--overlap NAME={count}"
                )
            name = pairing.free[0]
        if name not in pairing.free:
            raise ModelError(
                f"--overlap {name}={count}: there is no such input, or it is a state; the inputs "
                f"are {', '.join(pairing.free)}"
            )
        axis = _overlap_axis(values[name], axes, place, count)
        extent = values[name].type.shape[axis]
        if not 0 <= count < extent:
            raise ModelError(
                f"--overlap {name}={count}: axis {axis} of {name!r} holds {extent} elements, of "
                "which at least one has to be new"
            )
        found.append(Overlap(name, axis, count))
    return tuple(found)


def _overlap_axis(value: Value, axes: AxisClasses, place: str, count: int) -> int:
    """The axis along which chunks follow each other."""
    shape = value.type.shape
    if place:
        if not place.isdigit() or int(place) >= len(shape):
            raise ModelError(f"--overlap {value.name}@{place}: the input is {value.type}")
        return int(place)
    times = axes.time_axes(value)
    long = [axis for axis, extent in enumerate(shape) if extent > 1]
    chosen = [axis for axis in times if axis in long] or long
    if len(chosen) != 1:
        raise ModelError(
            f"--overlap {count}: the input {value.name!r} is {value.type}, which has "
            f"{len(chosen)} axes of more than one element; say which is time: "
            f"--overlap {value.name}@AXIS={count}"
        )
    return chosen[0]


def _free_notes(free: Mapping[str, Sequence[int]], pairing: Pairing) -> tuple[str, ...]:
    """That free dimensions of data are one, which makes a step of one frame."""
    names = [f"{name}[{axis}]" for name in pairing.free for axis in free.get(name, ())]
    if not names:
        return ()
    return (
        f"free dimensions are one in a step ({', '.join(names)}): one stream, one frame a step. "
        "For chunks of several frames give the shape: --shape NAME=EXTENT,...",
    )


def _begun(graph: Graph, pairing: Pairing) -> tuple[str, ...]:
    """Cells of which one state is carried, and another begins anew in every step."""
    wiring, before = Wiring(graph), {pair.before for pair in pairing.pairs}
    carried = {
        slot for value in graph.inputs if value.name in before for slot in wiring.slots_from(value)
    }
    names = [
        f"{state.name} of {node.name!r}"
        for node in graph.nodes
        if isinstance(node.op, Recurrent) and any(slot.node == node.name for slot in carried)
        for place, state in enumerate(node.op.cell().states)
        if not any(slot.node == node.name and slot.state == place for slot in carried)
    ]
    if not names:
        return ()
    return (
        f"begins anew in every step, because the model neither takes nor gives it: "
        f"{', '.join(names)}",
    )


def _notes(pairing: Pairing, carried: Carried) -> tuple[str, ...]:
    notes = []
    if pairing.pairs:
        told = "; ".join(str(pair) for pair in pairing.pairs)
        notes.append(f"states of the model, carried from step to step: {told}")
    guesses = [pair for pair in pairing.pairs if pair.is_guess]
    if guesses:
        names = ", ".join(pair.before for pair in guesses)
        notes.append(
            f"guessed from the wiring alone: {names}. If that is wrong, say --carry INPUT=OUTPUT "
            "for each state, or --no-carry"
        )
    notes += [
        f"the newest {item.count} elements of {item.name!r} along axis {item.axis} stand in front "
        "of its next chunk; zeros stand in front of the first"
        for item in carried.overlaps
        if item.count
    ]
    return tuple(notes)
