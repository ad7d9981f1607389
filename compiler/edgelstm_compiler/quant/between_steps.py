"""Few steps from equal states: what rounding to either side cannot carry on.

Where gates are in float32 and products in integers, a value that lies between two steps may be
rounded either way, and from there on a state differs by what that step is worth. From equal states
only the values of the very frame can do that: nudging the biases of the graph by more than float32
loses shows in which frames one does. In all others the outputs and states must be equal but for
float32, however far the free runs have come apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name
from edgelstm.sessions import Session
from edgelstm_compiler.comparison import absolute_error, scale_of
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Int8Dense, Int8Recurrent
from edgelstm_compiler.ir.ops.recurrent import B
from edgelstm_compiler.ir.types import Array, Constant
from edgelstm_compiler.quant.replay import Recording, Replay, chunks

NUDGE = 2e-6
"""Of each bias, over its magnitude where that exceeds 1: several times what float32 loses in a sum
and a function."""

STRIDE = 2
"""Frames from equal states: more than one, so that a state that is not carried on shows."""

LEAST_SHARE = 0.5
"""Of the frames that must be free of values between two steps, or nothing is said."""

_BIAS = {Int8Recurrent: B, Int8Dense: 2}


def rounds_values(graph: StepGraph) -> bool:
    """Whether the graph rounds what it computes in floating point."""
    return any(isinstance(node.op, tuple(_BIAS)) for node in graph.nodes)


def differs_from_equal_states(
    artifact: Artifact, graph: StepGraph, recording: Recording, tolerance: float
) -> str | None:
    """What differs from the graph in few steps from equal states; None: nothing does.

    Args:
        artifact: in streams, with the graph's states under their names.
        graph: what it computes, in NumPy.
        recording: what both are fed with.
        tolerance: over the largest magnitude. A frame counts where the nudged graphs stay within
            it of the graph, and the artifact within it of any of them: at most twice that.
    """
    session, replay = artifact.session(), Replay(graph)
    moved = [Replay(nudged(graph, sign * NUDGE)) for sign in (1.0, -1.0)]
    frames, compared, is_between = chunks(graph, recording), 0, False
    for number, frame in enumerate(frames):
        if number % STRIDE == 0:
            is_between = False
            for name, value in replay.states.items():
                session.set_state(name, value.reshape(session.get_state(name).shape))
            for other in moved:
                other.states = dict(replay.states)
        shaped = {x.name: frame[x.name].reshape(x.shape) for x in artifact.signature.inputs}
        found = _results(session, session.advance(shaped), graph)
        wanted = _seen(graph, replay.step(frame), replay.states)
        both = [_seen(graph, other.step(frame), other.states) for other in moved]
        is_between |= any(_error(other, wanted) > tolerance for other in both)
        if is_between:
            continue
        compared += 1
        for name, value in found.items():
            off = _error({name: value.reshape(wanted[name].shape)}, {name: wanted[name]})
            if not off <= 2 * tolerance:
                return f"{name!r}, from equal states, by {off:.3g} in frame {number}"
    if compared < LEAST_SHARE * len(frames):
        return f"too much to tell: {len(frames) - compared} of {len(frames)} frames are in between"
    return None


def _results(session: Session, result: Any, graph: StepGraph) -> dict[str, Array]:
    """New outputs and states of a session's step by name."""
    outputs = outputs_by_name(session.signature, result)
    found = {name: np.array(value) for name, value in outputs.items() if value is not None}
    return {**{state.name: session.get_state(state.name) for state in graph.states}, **found}


def _seen(
    graph: StepGraph, values: Mapping[str, Array], states: Mapping[str, Array]
) -> dict[str, Array]:
    """Outputs and new states of a step by name."""
    return {**states, **{out.name: values[out.value.name] for out in graph.outputs}}


def _error(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    return max(
        float(absolute_error(found[name], value).max(initial=0.0)) / scale_of(value)
        for name, value in wanted.items()
    )


def nudged(graph: StepGraph, nudge: float) -> StepGraph:
    """The graph with the biases of integer products moved, each up or down."""
    rng = np.random.default_rng(11)
    biases = {
        value
        for node in graph.nodes
        for kind, place in _BIAS.items()
        if isinstance(node.op, kind) and (value := node.inputs[place]) is not None
    }
    constants = []
    for item in graph.constants:
        if item.value in biases:
            size = nudge * np.maximum(np.abs(item.data), 1.0)
            item = _moved(item, size * rng.choice((-1.0, 1.0), item.data.shape))
        constants.append(item)
    return dataclasses.replace(graph, constants=tuple(constants))


def _moved(constant: Constant, by: Array) -> Constant:
    data = (constant.data + by).astype(constant.data.dtype)
    data.setflags(write=False)
    return Constant(constant.value, data)
