"""The signature of a step graph: frames, their places in the blocks, states."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from edgelstm.signature import Signature, StateSpec, TensorSpec
from edgelstm_compiler.ir.graph import StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.types import Array, TensorType
from edgelstm_compiler.lowering.bounds.check import StepBounds
from edgelstm_compiler.lowering.bounds.limits import StepLimits
from edgelstm_compiler.lowering.memory import align


def make_signature(
    graph: StepGraph, rate_hz: float | None = None, bounds: StepBounds | None = None
) -> Signature:
    """What a caller of the compiled graph sees.

    Args:
        graph: the step graph.
        rate_hz: sampling rate, where known.
        bounds: what its inputs may hold; None: everything.
    """
    bounds = bounds or StepBounds(StepLimits((math.inf,) * len(graph.inputs)), {})
    inputs, input_bytes = _place(
        [(item.value.name, item.value.type, item) for item in graph.inputs]
    )
    inputs = tuple(
        replace(spec, limit=limit, ranges=_runs(bounds.ranges.get(item.value)))
        for spec, item, limit in zip(inputs, graph.inputs, bounds.limits.limits, strict=True)
    )
    outputs, output_bytes = _place([(out.name, out.value.type, out) for out in graph.outputs])
    states: list[StateSpec] = []
    at = 0
    for state in graph.states:
        states.append(StateSpec(state.name, state.type.dtype, state.type.shape, at))
        at = align(at + state.type.nbytes)
    return Signature(
        name=c_identifier(graph.name),
        mode=graph.mode,
        inputs=inputs,
        outputs=outputs,
        states=tuple(states),
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        rate_hz=rate_hz,
        checks_states=bounds.limits.checks_states,
        state_limit=bounds.limits.state_limit,
        most_frames=graph.most_frames,
    )


def _runs(ranges: tuple[Array, Array] | None) -> tuple[tuple[int, float, float], ...]:
    """Ranges per element as runs of equal ones."""
    runs: list[tuple[int, float, float]] = []
    for low, high in zip(*(end.reshape(-1).tolist() for end in ranges or ()), strict=True):
        if runs and runs[-1][1:] == (low, high):
            runs[-1] = (runs[-1][0] + 1, low, high)
        else:
            runs.append((1, low, high))
    return tuple(runs)


def c_identifier(name: str) -> str:
    """The name with everything that C does not allow replaced."""
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "model"
    return f"m_{word}" if word[0].isdigit() else word


def _place(
    items: Sequence[tuple[str, TensorType, StepInput | StepOutput]],
) -> tuple[tuple[TensorSpec, ...], int]:
    specs: list[TensorSpec] = []
    at, widest = 0, 1
    for name, tensor, item in items:
        at = align(at, tensor.dtype.itemsize)
        widest = max(widest, tensor.dtype.itemsize)
        timing = (
            (item.stride, item.delay, item.warm_up, item.tail, item.reach)
            if isinstance(item, StepOutput)
            else (1, 0, 0, 0, 0)
        )
        specs.append(
            TensorSpec(
                name=name,
                dtype=tensor.dtype,
                shape=frame_shape(tensor, item.time_axis, item.batch_axis),
                offset_bytes=at,
                model_shape=tensor.shape,
                time_axis=item.time_axis,
                stride=timing[0],
                delay=timing[1],
                warm_up=timing[2],
                tail=timing[3],
                reach=timing[4],
            )
        )
        at += tensor.nbytes
    return tuple(specs), align(at, widest)


def frame_shape(
    tensor: TensorType, time_axis: int | None, batch_axis: int | None
) -> tuple[int, ...]:
    """A tensor's shape for callers, without time and without a batch of one."""
    return tuple(
        extent
        for axis, extent in enumerate(tensor.shape)
        if axis != time_axis and not (axis == batch_axis and extent == 1)
    )
