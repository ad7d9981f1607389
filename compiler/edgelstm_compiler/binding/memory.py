"""How much a whole sequence takes, estimated before anything is allocated or run."""

from __future__ import annotations

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Recurrent

MAX_BYTES = 1 << 29
"""All values of one call together, none of them released before the end."""

MAX_FRAMES = 50_000
"""Frames of a fixed window: the self-check runs all of them."""


def expect_small(graph: Graph) -> None:
    """Refuse a graph whose values take more than `MAX_BYTES`, or of more than `MAX_FRAMES`.

    Raises:
        ShapeError: the estimate, the largest value, and what to do.
    """
    for node in graph.nodes:
        frames = node.inputs[0]
        if isinstance(node.op, Recurrent) and frames is not None:
            count = frames.type.shape[0]
            if count > MAX_FRAMES:
                raise ShapeError(
                    f"{node.origin}: its window has {count} frames, at most {MAX_FRAMES} are "
                    "computed at once: give fewer by --shape, or export the model with a dynamic "
                    "time axis and compile a stream, which takes the frames one by one"
                )
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]
    total = sum(value.type.nbytes for value in values)
    if total > MAX_BYTES:
        largest = max(values, key=lambda value: value.type.nbytes)
        shapes = ", ".join(f"{value.name}{list(value.type.shape)}" for value in graph.inputs)
        raise ShapeError(
            f"one call with the inputs {shapes} takes about {total / 1e9:.1f} GB (the largest "
            f"value: '{largest.name}', {largest.type}), at most {MAX_BYTES / 1e9:.1f} GB are "
            "computed with: give fewer frames by --shape, or compile a stream, which takes the "
            "frames one by one"
        )
