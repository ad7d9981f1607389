"""How much memory a whole sequence takes, estimated before anything is allocated."""

from __future__ import annotations

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.graph import Graph

MAX_BYTES = 1 << 29
"""All values of one call together, none of them released before the end."""


def expect_small(graph: Graph) -> None:
    """Refuse a graph whose values take more than `MAX_BYTES`.

    Raises:
        ShapeError: the estimate, the largest value, and what to do.
    """
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
