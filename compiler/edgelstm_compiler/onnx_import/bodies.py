"""Bodies of loops, imported apart from the graph around them; and what stands behind a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import onnx

from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.onnx_import.builder import GraphBuilder
from edgelstm_compiler.onnx_import.refusals import Refusal
from edgelstm_compiler.onnx_import.sequences import Carried, TensorList
from edgelstm_compiler.onnx_import.trial import Trial


@dataclass(frozen=True, slots=True, eq=False)
class Unknown:
    """A value behind refused nodes.

    Args:
        refusals: what stands in its way.
        is_extent: it depends on their shapes only, and would be known otherwise.
    """

    refusals: frozenset[Refusal]
    is_extent: bool = False


Item: TypeAlias = "Carried | Unknown"
"""What stands behind a name."""


class RefusedBodyError(Exception):
    """A node inside a loop is refused."""


class ImportsApart(Protocol):
    """What imports a graph into a builder of its own."""

    def import_apart(
        self,
        graph: onnx.GraphProto,
        scope: dict[str, Item],
        path: str,
        wanted: Sequence[str] | None = None,
    ) -> tuple[GraphBuilder, list[Item]]:
        """The builder, and what the wanted values are."""


class BodyImporter:
    """Imports the body of a loop for a turn, apart from the graph around it."""

    def __init__(
        self, walk: ImportsApart, graph: onnx.GraphProto, scope: Mapping[str, Item], index: str
    ) -> None:
        self._walk, self._graph, self._scope, self._index = walk, graph, scope, index

    def __call__(self, given: Sequence[Carried], turn: int) -> Trial:
        """Its nodes and results."""
        builder, results = self._import(given, turn, None)
        values = [
            value
            for item in results
            for value in (item.items if isinstance(item, TensorList) else (item,))
            if isinstance(value, Value)
        ]
        nodes, constants = builder.needed_for(values)
        return Trial(tuple(nodes), constants, tuple(results))

    def count(self, given: Sequence[Carried], turn: int, places: Sequence[int]) -> list[Carried]:
        """Some of its results."""
        names = [self._graph.output[place].name for place in places]
        return self._import(given, turn, names)[1]

    def _import(
        self, given: Sequence[Carried], turn: int, wanted: Sequence[str] | None
    ) -> tuple[GraphBuilder, list[Carried]]:
        scope: dict[str, Item] = dict(self._scope)
        scope.update(zip((item.name for item in self._graph.input), given, strict=True))
        builder, found = self._walk.import_apart(
            self._graph, scope, f"{self._index}.{turn}.", wanted
        )
        results = [item for item in found if not isinstance(item, Unknown)]
        if len(results) < len(found):
            raise RefusedBodyError
        return builder, results
