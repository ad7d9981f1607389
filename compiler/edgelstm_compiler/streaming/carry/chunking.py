"""Which axis of a frame holds several frames, told in the signature of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.ir.graph import Graph, StepGraph, StepInput, StepOutput
from edgelstm_compiler.streaming.carry.steps import Carried, chunk_axes


def with_chunks(
    signature: Signature, steps: StepGraph, graph: Graph, carried: Carried
) -> Signature:
    """The signature with `chunk_axis` where a step takes or gives several frames.

    Args:
        signature: of the step graph.
        steps: the step graph.
        graph: the network with its states as inputs and outputs.
        carried: which they are.
    """
    axes = chunk_axes(graph, carried)
    ranks = {value.name: value.type.rank for value in graph.inputs}
    ranks |= {output.name: output.value.type.rank for output in graph.outputs}
    inputs = _marked(signature.inputs, steps.inputs, axes, ranks)
    chunks = {spec.shape[a] for spec in inputs if (a := spec.chunk_axis) is not None}
    if len(chunks) != 1:
        return signature  # inputs of several lengths a step: only whole steps can be fed
    return replace(
        signature, inputs=inputs, outputs=_marked(signature.outputs, steps.outputs, axes, ranks)
    )


def _marked(
    specs: Sequence[TensorSpec],
    places: Sequence[StepInput | StepOutput],
    axes: Mapping[str, int],
    ranks: Mapping[str, int],
) -> tuple[TensorSpec, ...]:
    return tuple(
        replace(spec, chunk_axis=_in_frame(spec, place, axes[spec.name], ranks[spec.name]))
        if spec.name in axes
        else spec
        for spec, place in zip(specs, places, strict=True)
    )


def _in_frame(spec: TensorSpec, place: StepInput | StepOutput, axis: int, rank: int) -> int | None:
    """Where an axis of the model's tensor stands in a frame; None where frames do not show it."""
    # An axis may have been put in front, to count frames.
    moved = axis + len(spec.model_shape) - rank
    extents = list(enumerate(spec.model_shape))
    shown = [
        a for a, e in extents if a != place.time_axis and not (a == place.batch_axis and e == 1)
    ]
    return shown.index(moved) if moved in shown else None
