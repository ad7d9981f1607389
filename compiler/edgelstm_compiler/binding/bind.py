"""Free dimensions become numbers: for one whole call, or for a stream."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.binding.carried import CarriedModel, find_carried
from edgelstm_compiler.binding.decided import expect_frames_do_not_decide
from edgelstm_compiler.binding.dimensions import (
    Key,
    Shapes,
    Trial,
    example_shapes,
    first_trials,
    free_keys,
    in_own_words,
    keys_of,
    next_trials,
    shapes_of,
    single_trials,
    trial_extents,
)
from edgelstm_compiler.binding.lengths import Convert, expect_one_step
from edgelstm_compiler.binding.memory import expect_small
from edgelstm_compiler.binding.one_frame import has_one_frame, with_more_frames
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.onnx_import.frames import FrameCountError
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import (
    CALL_INSTEAD,
    StreamabilityError,
    call_instead,
    refuse,
)

_MAX_TRIALS = 40
"""Imports with what contradictions suggest, at most."""

Admit: TypeAlias = Callable[[Graph], None]
"""Raises a ModelError where it refuses a sequence network."""


def _admit_all(graph: Graph) -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A model with all its dimensions as numbers.

    Args:
        graph: imported with these shapes.
        shapes: of every input.
        free_time: `(input, axis)` whose extent may be any number of frames; empty where the model
            has one fixed length.
        frames_graph: what a stream is made from, where that is not `graph`: of a model exported
            with one frame the same over more of them.
        advice: what to do where the model cannot be stepped.
        notes: what the user should know about what was bound, a sentence each.
        carried: the model with its states as inputs and outputs, one call of which is a step.
        frame_axes: of a window model: which axis of each input counts its frames.
    """

    graph: Graph
    shapes: Shapes
    free_time: tuple[tuple[str, int], ...] = ()
    frames_graph: Graph | None = None
    advice: str = CALL_INSTEAD
    notes: tuple[str, ...] = ()
    carried: CarriedModel | None = None
    frame_axes: Mapping[str, int | None] = field(default_factory=dict)

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
    expect_small(graph)
    return Binding(graph, {value.name: value.type.shape for value in graph.inputs})


def bind_states(
    model: OnnxModel,
    given: Mapping[str, Sequence[int]],
    request: CarryRequest,
    admit: Admit = _admit_all,
    convert: Convert = to_steps,
) -> Binding:
    """For a stream of a model that may have its states as inputs and outputs.

    Where the wiring alone says that there are states, and the model can be stepped without, it is.

    Args:
        model: the model.
        given: shapes of inputs.
        request: which outputs are states.
        admit: as in `bind_stream`.
        convert: as in `bind_stream`.

    Raises:
        ModelError: as `bind_stream` and `find_carried`.
    """
    found = find_carried(model, given, request)
    if found is None:
        return bind_stream(model, given, admit, convert)
    if not request.says_something and not found.pairing.rests_on_cells:
        try:
            binding = bind_stream(model, given, admit, convert)
            convert(binding.frames_graph or binding.graph, binding.advice)
        except ModelError:
            pass
        else:
            told = "; ".join(str(pair) for pair in found.pairing.pairs)
            options = " ".join(f"--carry {p.before}={p.after}" for p in found.pairing.pairs)
            note = f"inputs that might be states, but are taken for data: {told}. Else: {options}"
            return replace(binding, notes=(*binding.notes, note))
    return Binding(
        found.graph,
        found.shapes,
        advice="",
        notes=(*_notes(found.graph), *found.notes),
        carried=found,
    )


def bind_stream(
    model: OnnxModel,
    given: Mapping[str, Sequence[int]],
    admit: Admit = _admit_all,
    convert: Convert = to_steps,
) -> Binding:
    """For a stream: free time stays free, a free batch is one stream.

    Args:
        model: the model.
        given: shapes of inputs.
        admit: may refuse the graph, before it is imported and stepped at many numbers of frames.
        convert: makes of a sequence network what has to be the same at any number of frames.

    Raises:
        ShapeError: a free dimension that is neither and is not given, or a contradiction.
        StreamabilityError: the number of frames decides what the model computes.
        ModelError: the model cannot be imported.
    """
    keys = free_keys(model.inputs, given)
    if not keys:
        return _bind_static(model, given)
    trial, graph, primes = _try(model, given, keys)
    admit(graph)
    return _settle(model, given, trial, graph, primes, convert)


def bind_window(
    model: OnnxModel, given: Mapping[str, Sequence[int]], frames: int | None
) -> Binding:
    """For windows of some frames: time is as long as a window, a free batch is one stream.

    Args:
        model: the model.
        given: shapes of inputs.
        frames: of a window; None where time is fixed.

    Raises:
        ShapeError: the model has another number of frames, or nobody says how many a window has;
            a free dimension that is neither time nor batch and is not given, or a contradiction.
        ModelError: the model cannot be imported.
    """
    keys = free_keys(model.inputs, given)
    shapes: Mapping[str, Sequence[int]] = given
    if keys:
        trial, graph, primes = _try(model, given, keys)
        time, extents = _standing(model, given, trial, graph, primes)
        if time and frames is None:
            raise ShapeError(
                "the model takes windows of any length: give the number of frames, --window W"
            )
        final = {key: frames or 1 if key in time else extents.get(key, 1) for key in trial}
        shapes = shapes_of(model.inputs, given, final)
    graph = import_graph(model, shapes)
    expect_small(graph)
    axes = window_axes(graph, frames)
    bound = {value.name: value.type.shape for value in graph.inputs}
    return Binding(graph, bound, advice="", notes=_notes(graph), frame_axes=axes)


def trial_graph(
    model: OnnxModel, given: Mapping[str, Sequence[int]], above: int = 0
) -> tuple[Graph, bool]:
    """The model at some number of frames, and whether any other would do.

    Args:
        model: the model.
        given: shapes of inputs.
        above: more frames than this, where their number is free.

    Raises:
        ModelError: there are no numbers for its free dimensions.
    """
    keys = free_keys(model.inputs, given)
    if not keys:
        return import_graph(model, given), False
    trial, graph, primes = _try(replace(model, attention_context=above), given, keys)
    time, _ = _standing(model, given, trial, graph, primes)
    return graph, bool(time)


def time_axes(
    model: OnnxModel, given: Mapping[str, Sequence[int]]
) -> list[tuple[tuple[str, int], ...]]:
    """What may be the free time of a model, as `(input, axis)`; one thing only where it is known.

    Raises:
        ModelError: there are no numbers for its free dimensions.
    """
    keys = free_keys(model.inputs, given)
    if not keys:
        return [()]
    trial, graph, _ = _try(model, given, keys)
    classes = AxisClasses(graph)
    values = {value.name: value for value in graph.inputs}
    places = [
        (info.name, axis)
        for info in model.inputs
        for axis, key in keys_of(info, given)
        if trial[key] > 1 and axis != classes.batch_axis(values[info.name])
    ]
    known = tuple(place for place in places if place[1] in classes.time_axes(values[place[0]]))
    return [known] if known else [tuple(places), *((place,) for place in places)]


def window_axes(graph: Graph, frames: int | None) -> dict[str, int | None]:
    """Which axis of each input is time; None where an input has none.

    Where no cell says so, it is the only axis that is as long as a window.

    Raises:
        ShapeError: no input has one, or it is not as long as a window.
    """
    classes = AxisClasses(graph)
    found: dict[str, int | None] = {}
    for value in graph.inputs:
        known = classes.time_axes(value)
        fitting = [axis for axis, extent in enumerate(value.type.shape) if extent == frames]
        found[value.name] = known[0] if known else fitting[0] if len(fitting) == 1 else None
    lengths = {
        value.type.shape[axis] for value in graph.inputs if (axis := found[value.name]) is not None
    }
    if len(lengths) != 1:
        listed = "; ".join(f"{value.name} {value.type.shape}" for value in graph.inputs)
        raise ShapeError(
            f"which axis of the inputs counts the frames of a window is not clear ({listed}): "
            "give --window W, the length of one axis of each input alone"
        )
    if frames is not None and lengths != {frames}:
        raise ShapeError(
            f"the model takes windows of {lengths.pop()} frames and no others: leave --window "
            f"{frames} out, or export it with a dynamic time axis"
        )
    return found


def _try(
    model: OnnxModel, given: Mapping[str, Sequence[int]], keys: Sequence[Key]
) -> tuple[Trial, Graph, Container[int]]:
    """Extents for the free dimensions under which the model is imported, so imported.

    Raises:
        ModelError: there are none; the first contradiction.
    """
    first = first_trials(model.inputs, given, keys, trial_extents(model))
    primes = set(itertools.chain.from_iterable(trial.values() for trial in first))
    waiting = deque(first)
    failure: ModelError | None = None
    suggested = itertools.islice(_each(waiting), _MAX_TRIALS)
    for trial in itertools.chain(suggested, single_trials(first)):
        try:
            graph = import_graph(model, shapes_of(model.inputs, given, trial))
        except UnsupportedOpError as error:
            rows = [(op, node, in_own_words(why, trial)) for op, node, why in error.refusals]
            raise UnsupportedOpError(in_own_words(str(error), trial), rows) from error
        except ShapeError as error:
            failure = failure or _free_failure(model, error, trial)
            waiting.extend(next_trials(str(error), trial, model.inputs))
            continue
        if failure is None or _is_sound(model, given, trial, primes, graph):
            return trial, graph, primes
    assert failure is not None
    raise failure


def _each(waiting: deque[Trial]) -> Iterator[Trial]:
    """What waits, and what joins while it is taken, each once."""
    seen: list[Trial] = []
    while waiting:
        trial = waiting.popleft()
        if trial not in seen:
            seen.append(trial)
            yield trial


def _is_sound(
    model: OnnxModel,
    given: Mapping[str, Sequence[int]],
    trial: Trial,
    primes: Container[int],
    graph: Graph,
) -> bool:
    """Whether dimensions that were made to fit are no time or batch that the model wants otherwise.

    Not sound is one frame that is repeated beside others, and a fixed number of frames or streams.
    """
    axes = AxisClasses(graph)
    values = {value.name: value for value in graph.inputs}
    for info in model.inputs:
        for axis, key in keys_of(info, given):
            value, extent = values[info.name], trial[key]
            if extent == 1:
                if axes.is_spread_over_time(value, axis, graph):
                    return False
            elif extent not in primes and (
                axis in axes.time_axes(value) or axis == axes.batch_axis(value)
            ):
                return False
    return True


def _free_failure(model: OnnxModel, error: ShapeError, trial: Trial) -> ShapeError:
    """The contradiction in the model's own names, and which of them can be given."""
    free = "; ".join(str(info) for info in model.inputs if not info.is_static)
    return ShapeError(
        f"{in_own_words(str(error), trial)}. Free in the model: {free}; where one of these "
        f"dimensions is neither time nor batch, give the shape: {example_shapes(model.inputs, ())} "
        "with your numbers"
    )


def _standing(
    model: OnnxModel,
    given: Mapping[str, Sequence[int]],
    trial: Trial,
    graph: Graph,
    primes: Container[int],
) -> tuple[set[Key], dict[Key, int]]:
    """Which free dimensions are time, and the extents of those that are neither time nor batch.

    Raises:
        ShapeError: nothing says what one of them is.
    """
    axes = AxisClasses(graph)
    values = {value.name: value for value in graph.inputs}
    time: set[Key] = set()
    single: set[Key] = {key for key, extent in trial.items() if extent == 1}
    fixed = {key: e for key, e in trial.items() if e != 1 and e not in primes}
    for info in model.inputs:
        for axis, key in keys_of(info, given):
            if axis in axes.time_axes(values[info.name]):
                time.add(key)
            elif axis == axes.batch_axis(values[info.name]):
                single.add(key)
    unknown = [
        f"axis {axis} of {info}"
        for info in model.inputs
        for axis, key in keys_of(info, given)
        if key not in single and key not in fixed and axis not in axes.time_axes(values[info.name])
    ]
    if unknown:
        expect_frames_do_not_decide(model, given, trial)
        raise ShapeError(
            f"these dimensions are neither time nor batch of a recurrent layer: "
            f"{'; '.join(unknown)}. Give them: --shape NAME=EXTENT,EXTENT,..."
        )
    return time, fixed


def _settle(
    model: OnnxModel,
    given: Mapping[str, Sequence[int]],
    trial: Trial,
    graph: Graph,
    primes: Container[int],
    convert: Convert,
) -> Binding:
    """Read off a trial import what each free dimension is; import with time alone left free."""
    time, fixed = _standing(model, given, trial, graph, primes)
    frames = max((trial[key] for key in time), default=1)
    final = {key: frames if key in time else fixed.get(key, 1) for key in trial}
    shapes = shapes_of(model.inputs, given, final)
    free_time = tuple(
        (info.name, axis)
        for info in model.inputs
        for axis, key in keys_of(info, given)
        if key in time
    )
    if not free_time:
        return _bind_static(model, shapes)
    advice = call_instead(example_shapes(model.inputs, free_time))
    try:
        graph = import_graph(model, shapes, time=free_time)
    except FrameCountError as error:
        raise refuse(error.reasons, advice) from error
    except ShapeError as error:
        raise _free_failure(model, error, final) from error
    bound = {value.name: value.type.shape for value in graph.inputs}
    binding = Binding(graph, bound, free_time, advice=advice, notes=_notes(graph))

    def import_at(steps: int) -> Graph:
        return import_graph(model, binding.shapes_for(steps), time=free_time if steps > 1 else ())

    try:
        expect_one_step(graph, import_at, advice, convert, model.attention_context or 0)
    except StreamabilityError as error:
        reasons = [(origin, in_own_words(why, final)) for origin, why in error.reasons]
        raise refuse(reasons, advice) from error
    return binding


def _bind_static(model: OnnxModel, given: Mapping[str, Sequence[int]]) -> Binding:
    """A model of fixed shapes; of one frame it is a step, whatever axes it has beside time."""
    graph = import_graph(model, given)
    expect_small(graph)
    shapes = {value.name: value.type.shape for value in graph.inputs}
    if not has_one_frame(graph):
        return Binding(graph, shapes, notes=_notes(graph))
    more = with_more_frames(model, graph, next(trial_extents(model)))
    note = (
        "the model was exported with one frame: each step computes one, and the states of its "
        "recurrent layers are carried from frame to frame, from their initial values on"
    )
    return Binding(graph, shapes, frames_graph=more, advice="", notes=(*_notes(graph), note))


def _notes(graph: Graph) -> tuple[str, ...]:
    """What is easily overlooked: a batch that is more than one stream."""
    axes = AxisClasses(graph)
    notes = []
    for value in graph.inputs:
        axis = axes.batch_axis(value)
        extent = 1 if axis is None else value.type.shape[axis]
        if extent > 1:
            notes.append(
                f"axis {axis} of the input '{value.name}' is a batch of {extent}: the artifact "
                f"steps {extent} streams side by side, and every frame holds one row of each. For "
                "one stream export the model with a batch of 1, or a dynamic one"
            )
    return tuple(notes)
