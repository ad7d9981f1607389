"""Functions that a model defines itself: checked for circles and size, then inlined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import onnx
import onnx.inliner

from edgelstm.errors import ModelError
from edgelstm_compiler.onnx_import.order import sub_graphs

MAX_INLINED_NODES = 1_000_000

Key: TypeAlias = "tuple[str, str, str]"


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own.

    Raises:
        ModelError: functions that call each other in a circle, or that would multiply without
            measure; onnx's inliner runs out of stack or memory on those.
    """
    if not model.functions:
        return model
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(bodies) != len(model.functions):
        raise ModelError("the model defines a function twice; every function needs a name")
    sizes: dict[Key, int] = {}
    for key in bodies:
        _measure(key, bodies, sizes, ())
    total = sum(sizes.get(_key(node), 1) for node in _all_nodes(model.graph.node))
    if total > MAX_INLINED_NODES:
        raise ModelError(
            f"the functions of the model unfold to {total} nodes, more than {MAX_INLINED_NODES}"
        )
    return onnx.inliner.inline_local_functions(model)


def _measure(
    key: Key,
    bodies: dict[Key, onnx.FunctionProto],
    sizes: dict[Key, int],
    callers: tuple[Key, ...],
) -> int:
    """Nodes of a function when all that it calls is inlined."""
    if key in callers:
        circle = [*callers[callers.index(key) :], key]
        names = " -> ".join(f"'{domain}.{name}'" for domain, name, _ in circle)
        raise ModelError(f"functions of the model call each other in a circle: {names}")
    if len(callers) > 200:
        raise ModelError("functions of the model call each other more than 200 levels deep")
    if key not in sizes:
        sizes[key] = sum(
            _measure(called, bodies, sizes, (*callers, key)) if called in bodies else 1
            for called in map(_key, _all_nodes(bodies[key].node))
        )
    return sizes[key]


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in sub_graphs(node):
            yield from _all_nodes(graph.node)
