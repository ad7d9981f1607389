"""What the outputs of a graph depend on, found by changing one input after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import is_floating
from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.check_inputs import candidates, draw_white, types_of
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.types import Array


@dataclass(frozen=True, slots=True)
class Influence:
    """Dependences, as far as one drawing shows them.

    Args:
        moved: by input the outputs that change with it; None where nothing could be computed.
        copies: pairs of input and output that hold the same elements, in whatever order.
    """

    moved: Mapping[str, frozenset[str]] | None
    copies: frozenset[tuple[str, str]] = frozenset()

    def reaches(self, before: str, after: str) -> bool:
        """Whether the output depends on the input; taken for granted where nothing is known."""
        return self.moved is None or after in self.moved[before]

    def is_copy(self, before: str, after: str) -> bool:
        """Whether the output is nothing but the input."""
        return (before, after) in self.copies


def find_influence(graph: Graph) -> Influence:
    """Evaluate once, and once more for every input with that one drawn anew."""
    for domains in candidates(graph):
        base = draw_white(types_of(graph), domains)
        others = draw_white(types_of(graph), domains, scale=-0.5)
        try:
            with np.errstate(all="ignore"):
                first = evaluate(graph, base).outputs
                moved = {
                    name: frozenset(
                        output
                        for output, x in evaluate(
                            graph, {**base, name: others[name]}
                        ).outputs.items()
                        if x.tobytes() != first[output].tobytes()
                    )
                    for name in base
                }
        except EdgeLSTMError:
            continue
        if not all(np.isfinite(x).all() for x in first.values() if is_floating(x.dtype)):
            continue
        copies = {
            (name, output)
            for name, x in base.items()
            for output, y in first.items()
            if _are_same(x, y)
        }
        return Influence(moved, frozenset(copies))
    return Influence(None)


def _are_same(x: Array, y: Array) -> bool:
    """Whether two arrays hold the same elements; integers are drawn from few and may by chance."""
    if x.size != y.size or x.dtype != y.dtype or not is_floating(x.dtype):
        return False
    return np.sort(x, axis=None).tobytes() == np.sort(y, axis=None).tobytes()
