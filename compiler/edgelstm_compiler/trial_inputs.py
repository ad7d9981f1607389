"""What the self-check feeds: recordings, or input drawn where the model is defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.signature import Signature
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.check_inputs import Domain, draw_white, find_domains
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.session_rows import to_sequence
from edgelstm_compiler.step_trace import StepTrace, open_heads

LENGTHS = (9, 23)
"""Numbers of frames compared where time is free, behind those that nothing comes of."""

RECORDED = 64
"""Frames of a recording that are compared where time is free."""


@dataclass(frozen=True, slots=True)
class CheckInputs:
    """What the self-check feeds.

    Args:
        trials: inputs as the model takes them, with the number of frames where that is free.
        origin: in words.
        domains: of drawn inputs, by name.
    """

    trials: Sequence[tuple[int | None, Mapping[str, Array]]]
    origin: str
    domains: Mapping[str, Domain] = field(default_factory=dict)


def choose_inputs(
    artifact: Artifact,
    binding: Binding,
    graph: StepGraph,
    recordings: Sequence[Mapping[str, Array]] = (),
) -> CheckInputs | None:
    """Input from recordings where they reach, else drawn within the domain of the model.

    Returns:
        The inputs; None where the model gives nothing finite on whatever is drawn.
    """
    is_free = bool(binding.free_time)
    outputs = artifact.signature.outputs
    longer = max((spec.warm_up + spec.stride - 1 for spec in outputs), default=0)
    lengths: Sequence[int | None] = [n + longer for n in LENGTHS] if is_free else (None,)
    if recordings:
        if is_free:
            lengths = _recorded_lengths(artifact.signature, recordings)
        trials = _from_recordings(artifact.signature, binding, recordings, lengths)
        if trials:
            return CheckInputs(trials, "a recording")
    specs = [(value.name, value.type.dtype) for value in binding.graph.inputs]

    def draw(
        domains: Mapping[str, Domain], shapes: Mapping[str, Sequence[int]], scale: float = 1.0
    ) -> dict[str, Array]:
        items = [(name, tuple(shapes[name]), dtype) for name, dtype in specs]
        return draw_white(items, domains, scale)

    domains = find_domains(binding.graph, lambda found: draw(found, binding.shapes))
    if domains is None:
        return None
    trials = []
    for index, length in enumerate(lengths):
        shapes = binding.shapes if length is None else binding.shapes_for(length)
        scale = 1.0
        if index == 0 and len(lengths) > 1:
            scale = _least_saturated(graph, partial(draw, domains, shapes), length or 1)
        trials.append((length, draw(domains, shapes, scale)))
    return CheckInputs(trials, "seeded random input", domains)


def random_inputs(binding: Binding, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Seeded input for the model at these shapes, within its domain where one is found."""
    items = [(v.name, tuple(shapes[v.name]), v.type.dtype) for v in binding.graph.inputs]
    at_home = [(v.name, v.type.shape, v.type.dtype) for v in binding.graph.inputs]
    domains = find_domains(binding.graph, lambda found: draw_white(at_home, found))
    return draw_white(items, domains or {})


def _least_saturated(
    graph: StepGraph, draw: Callable[[float], Mapping[str, Array]], length: int
) -> float:
    """The scale of the inputs at which the probabilities that come out are the least certain."""
    opened, found = open_heads(graph)
    heads = [name for name in found if name.startswith("before ")]
    if not heads:
        return 1.0
    certainty = {}
    for scale in (1.0, 0.3, 0.1, 0.03):
        rows = StepTrace(opened, draw(scale), length).exact(length)
        sizes = [float(np.nan_to_num(np.abs(rows[name]), nan=np.inf).mean()) for name in heads]
        certainty[scale] = max(sizes)
    best = min(certainty, key=lambda scale: certainty[scale])
    return best if certainty[best] < 0.5 * certainty[1.0] else 1.0


def _recorded_lengths(
    signature: Signature, recordings: Sequence[Mapping[str, Array]]
) -> tuple[int, ...]:
    """A short beginning, and as much of a recording as is compared frame by frame."""
    timed = [spec.name for spec in signature.inputs if spec.time_axis is not None]
    counts = [
        min((len(recording[name]) for name in timed if name in recording), default=0)
        for recording in recordings
    ]
    most = min(counts[0], LENGTHS[0]), min(counts[min(1, len(counts) - 1)], RECORDED)
    return tuple(sorted({count for count in most if count > 0}))


def _from_recordings(
    signature: Signature,
    binding: Binding,
    recordings: Sequence[Mapping[str, Array]],
    lengths: Sequence[int | None],
) -> list[tuple[int | None, Mapping[str, Array]]]:
    """The model's inputs out of recordings: their beginnings, one recording after another."""
    trials: list[tuple[int | None, Mapping[str, Array]]] = []
    for index, length in enumerate(lengths):
        shapes = binding.shapes if length is None else binding.shapes_for(length)
        recording = recordings[min(index, len(recordings) - 1)]
        inputs: dict[str, Array] = {}
        for spec in signature.inputs:
            if spec.name not in recording:
                return []
            data = np.asarray(recording[spec.name])
            shape = tuple(shapes[spec.name])
            if spec.time_axis is not None:
                wanted = shape[spec.time_axis]
                if len(data) < wanted:
                    return []
                rows = np.ascontiguousarray(data[:wanted]).reshape(wanted, *spec.shape)
                data = to_sequence(rows, spec)
            elif data.size > int(np.prod(shape)):
                data = data.reshape(-1)[: int(np.prod(shape))]
            if data.size != int(np.prod(shape)):
                return []
            inputs[spec.name] = np.ascontiguousarray(data, spec.dtype.numpy).reshape(shape)
        trials.append((length, inputs))
    return trials
