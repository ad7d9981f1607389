"""A recurrence that an exporter unrolled becomes one Scan again, checked by evaluation.

The copies in the middle have to be the same node by node, and the last one has the same nodes in
front of what stands behind it. The first may have been folded, from initial values of zero: whether
the body gives its values, too, is found by computing both on random input. What is made is compared
with the graph as it was; where it is not the same, the graph stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.passes.copies import find_copies
from edgelstm_compiler.passes.rolled_graph import RolledGraph
from edgelstm_compiler.passes.sampling import is_the_same
from edgelstm_compiler.passes.unrolled_body import Roller

MOST_LAYERS = 16
"""Recurrences that are rolled in one graph."""


def roll_copies(graph: Graph, ctx: PassContext) -> Graph:
    """Scans in place of unrolled recurrences, one for each direction."""
    del ctx
    for _ in range(MOST_LAYERS):
        rolled = next(_ways(graph), None)
        if rolled is None:
            break
        graph = rolled
    return graph


def _ways(graph: Graph) -> Iterator[Graph]:
    """The graph with one more Scan: recurrences before layers that carry nothing."""
    for is_reversed, carries in ((False, True), (True, True), (False, False)):
        copies = find_copies(graph, is_reversed=is_reversed)
        if copies is None or bool(copies.following) is not carries:
            continue
        try:
            roller = Roller(graph, copies)
            extent = roller.extent()
            rolled = None if extent is None else RolledGraph(roller, extent).graph()
            is_right = rolled is not None and is_the_same(graph, rolled)
        except (ValueError, EdgeLSTMError):
            continue
        if rolled is not None and is_right:
            yield rolled
