"""Whether a model with free time is the same stream at any number of frames: imports it again.

The importer follows what derives from the number of frames. This is the second net: whatever it
let through has to give the same step at numbers far apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError, ModelError
from edgelstm.signature import CLOCK
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, StepGraph, StepInput
from edgelstm_compiler.ir.text import print_graph
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError, refuse

LENGTHS = (2, 3, 7, 40, 1000)
"""Numbers of frames at which the step has to be the same; at one frame the numbers have to."""

LONG_LENGTHS = (211, 307, 1000)
"""The same of a model that looks at more than one frame, which may be none at fewer of them."""

TOLERANCE = 1e-9

Import = Callable[[int], Graph]
Convert = Callable[[Graph, str], StepGraph]
"""A sequence graph, and the advice where it cannot be converted."""


def expect_one_step(
    graph: Graph,
    import_at: Import,
    advice: str,
    convert: Convert = to_steps,
    above: int = 0,
) -> None:
    """Compare the step of the graph with those of the model at other numbers of frames.

    Args:
        graph: at the trial number of frames.
        import_at: the model at a number of frames.
        advice: what to do with a model that is refused.
        convert: makes the step, or a chunk.
        above: frames that attention sees: at fewer of them it is another.

    Raises:
        StreamabilityError: they differ, the model is none at some number of frames, or it cannot
            be stepped at all.
    """
    step = convert(graph, advice)
    text = print_graph(step)
    looks_back = has_history(step)
    for frames in [above + n for n in LONG_LENGTHS] if looks_back or above else LENGTHS:
        try:
            other = print_graph(convert(import_at(frames), advice))
        except ModelError as error:
            reason = (
                f"its time is free, but it fails at {frames} frames: {error}; a length was baked "
                "in when it was exported: give the shape it was traced with by --shape, or export "
                "it again with dynamic axes"
            )
            raise refuse([("the model", reason)], advice) from error
        if other != text:
            raise refuse([("the model", _difference(text, other, frames))], advice)
    if not (looks_back or above) and convert is to_steps:
        _expect_first_frame(step, import_at, text, advice)


def has_history(step: StepGraph) -> bool:
    """Whether frames are kept, or do not give an output each."""
    return any(state.name.endswith((".history", CLOCK)) for state in step.states) or any(
        (out.stride, out.delay, out.warm_up) != (1, 0, 0) for out in step.outputs
    )


def _difference(text: str, other: str, frames: int) -> str:
    lines = set(text.splitlines())
    first = next((line for line in other.splitlines() if line not in lines), "")
    where = f" (first to differ: {first.strip()[:200]})" if first else ""
    return (
        f"it computes something else at {frames} frames than at other numbers of them{where}: the "
        "number of frames decides, and a stream never knows it"
    )


def _expect_first_frame(step: StepGraph, import_at: Import, text: str, advice: str) -> None:
    """At one frame axes of extent one can be told apart no more, so the numbers are compared."""
    try:
        single = import_at(1)
    except ModelError:
        return  # no model at one frame: nothing that the stream could contradict
    try:
        if print_graph(to_steps(single)) == text:
            return
    except StreamabilityError:
        pass
    wrong = _wrong_output(step, single, 1)
    if wrong is None or _wrong_output(step, import_at(2), 2) is not None:
        return  # right, or wrong at any number of frames: not the model's fault
    reason = (
        f"its output {wrong!r} is another one at a single frame than at more of them: is an axis "
        "dropped (Squeeze without axes), or does the number of frames decide?"
    )
    raise refuse([("the model", reason)], advice)


def _wrong_output(step: StepGraph, graph: Graph, frames: int) -> str | None:
    """The first output in which the stream is not the model, on random frames."""
    inputs = {value.name: _random(value) for value in graph.inputs}
    try:
        expected = evaluate(graph, inputs, dtype=DType.F64).outputs
        rows: dict[str, list[Array]] = {name: [] for name in expected}
        states: Mapping[str, Array] = {}
        for place in range(frames):
            frame = {
                item.value.name: _frame(inputs[item.value.name], item, place)
                for item in step.inputs
            }
            result = evaluate(step, frame, dtype=DType.F64, states=states)
            states = result.states
            for name in rows:
                rows[name].append(np.array(result.outputs[name]))
    except EdgeLSTMError:
        return None
    for output in step.outputs:
        axis, found = output.time_axis, rows[output.name]
        actual = found[-1] if axis is None else np.concatenate(found, axis)
        if not _is_close(actual, expected[output.name]):
            return output.name
    return None


def _frame(data: Array, item: StepInput, place: int) -> Array:
    taken = data if item.time_axis is None else np.take(data, [place], item.time_axis)
    return np.asarray(taken).reshape(item.value.type.shape)


def _random(value: Value) -> Array:
    rng = np.random.default_rng(zlib.crc32(value.name.encode()))
    shape, dtype = value.type.shape, value.type.dtype
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    return np.zeros(shape, dtype.numpy)


def _is_close(a: Array, b: Array) -> bool:
    if a.size != b.size:
        return False
    first, second = (np.asarray(x, np.float64).reshape(-1) for x in (a, b))
    with np.errstate(all="ignore"):
        limit = TOLERANCE * np.maximum(1, np.abs(second))
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        return bool(np.all(same | (np.abs(first - second) <= limit)))
