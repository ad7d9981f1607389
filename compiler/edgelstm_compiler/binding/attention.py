"""Attention that a caller bounds: where a model has it, and whether its own masks say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelstm.errors import ModelError
from edgelstm_compiler.binding.bind import trial_graph
from edgelstm_compiler.onnx_import.attention_band import Weighting, with_band
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.attention import Attention, Attentions
from edgelstm_compiler.streaming.axes import AxisClasses


@dataclass(frozen=True, slots=True)
class AttentionBound:
    """How many frames attention sees, and what that makes of the model.

    Args:
        context: frames that each frame sees at most, its own included.
        nodes: that weight frames by frames, as messages call them.
        is_exact: the model's own masks say as much, at every length that it takes.
        frames: the only length that it takes; None: any.
        exact_for: frames from the beginning for which it is the model's function all the same.
    """

    context: int
    nodes: tuple[str, ...]
    is_exact: bool
    frames: int | None
    exact_for: int


def bound_of(
    model: OnnxModel, context: int, shapes: Mapping[str, Sequence[int]]
) -> tuple[AttentionBound, list[Weighting]]:
    """Where a model has attention over its frames, and what a bound makes of it.

    Args:
        model: as the file has it.
        context: frames that each frame sees at most.
        shapes: of inputs with free dimensions, as the caller gave them.

    Raises:
        ModelError: it has none, or takes fewer frames than that.
    """
    found, frames = _attentions(model, shapes, above=context)
    if not found:
        raise ModelError(
            f"--attention-context {context}: the model has no attention over its frames: leave it "
            "out"
        )
    if frames is not None and context > frames:
        raise ModelError(
            f"--attention-context {context}: the model takes {frames} frames, and says nothing "
            f"about attention to more: give at most {frames}"
        )
    unweighted = [item.origin for item in found if not (item.softmax or _is_within(item, context))]
    if unweighted:
        raise ModelError(
            f"--attention-context {context}: {', '.join(unweighted)} sums up frames by weights "
            "that no softmax makes, and sees more of them: only the model itself can mask that"
        )
    weightings = [
        Weighting(node.origin or node.name, node.outputs[0].type.rank, query, key)
        for item in found
        for node, query, key in item.softmax
    ]
    nodes = tuple(dict.fromkeys(item.origin for item in weightings or found))
    is_exact = all(_is_within(item, context) for item in found)
    exact_for = 0 if _looks_ahead(found) else context
    bound = AttentionBound(context, nodes, is_exact, frames, exact_for)
    return bound, weightings


def seen_frames(
    model: OnnxModel, shapes: Mapping[str, Sequence[int]]
) -> tuple[int | None, bool] | None:
    """The frames that attention sees at most, and whether it sees later ones.

    Returns:
        None where there is no attention; no number where the model takes any.
    """
    try:
        found, frames = _attentions(model, shapes)
    except ModelError:
        return None
    return (frames, _looks_ahead(found)) if found else None


def bounded(model: OnnxModel, context: int, shapes: Mapping[str, Sequence[int]]) -> OnnxModel:
    """The model in which each frame sees itself and those before it, so many in all.

    Raises:
        ModelError: as `bound_of`; or no mask can be put into it.
    """
    if model.attention_context == context:
        return model
    bound, weightings = bound_of(model, context, shapes)
    return with_band(model, [] if bound.is_exact else weightings, context)


def _attentions(
    model: OnnxModel, shapes: Mapping[str, Sequence[int]], above: int = 0
) -> tuple[list[Attention], int | None]:
    """The attention of a model, and how many frames it takes; None where any number will do."""
    graph, is_free = trial_graph(model, shapes, above=above)
    found = list(Attentions(graph, AxisClasses(graph)))
    return found, None if is_free else max((item.frames for item in found), default=None)


def _looks_ahead(found: Sequence[Attention]) -> bool:
    return any(item.ahead or not item.is_summed for item in found)


def _is_within(item: Attention, context: int) -> bool:
    return item.is_summed and item.ahead == 0 and item.context <= context
