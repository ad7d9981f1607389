"""What is refused of a model, node by node, and the one error that says all of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import onnx

from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.onnx_import.folding import is_foldable
from edgelstm_compiler.onnx_import.ops import OPERATORS
from edgelstm_compiler.onnx_import.order import describe_node, sub_graphs

Refusal: TypeAlias = "tuple[str, str, str]"
"""Operator, the node as messages call it, and the reason."""

EXPORT_THE_LAYER = (
    "export the recurrent layer itself. PyTorch: nn.LSTM, nn.GRU or nn.RNN in place of a scripted "
    "loop over cells. Keras: Masking and stateful=True make loops that depend on the data: leave "
    "them out"
)


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether the operator is one of ONNX itself."""
    return node.domain in ("", "ai.onnx")


def operator_name(node: onnx.NodeProto) -> str:
    """The operator as tables name it; those of other domains with their domain."""
    return node.op_type if is_standard(node) else f"{node.domain}.{node.op_type}"


def unsupported_reason(node: onnx.NodeProto) -> str:
    """Why an operator that no table knows is refused, with the way out where there is one."""
    if not is_standard(node):
        return f"operators of the domain '{node.domain}' are not supported"
    return "the operator is not supported"


def refusals_inside(graph: onnx.GraphProto, path: str) -> set[Refusal]:
    """Refused operators of a sub-graph that is not entered."""
    found = set()
    for index, node in enumerate(graph.node):
        origin = describe_node(node, f"{path}{index}")
        is_entered = operator_name(node) in OPERATORS
        if is_standard(node):
            is_entered |= is_foldable(node.op_type) or node.op_type == "If"
        if not is_entered:
            reason = "not supported either (it stands inside a refused operator)"
            found.add(refusal(node, origin, reason))
        for number, inner in enumerate(sub_graphs(node)):
            found |= refusals_inside(inner, f"{path}{index}.{number}.")
    return found


def refusal(node: onnx.NodeProto, origin: str, reason: str) -> Refusal:
    """Why a node is refused."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return operator, origin, reason


def in_order(refusals: Iterable[Refusal]) -> list[Refusal]:
    """By operator, then by node."""
    return sorted(refusals, key=lambda row: (row[0], len(row[1]), row[1]))


def refuse(refusals: Iterable[Refusal]) -> UnsupportedOpError:
    """One error for all refusals of a model, one a line."""
    rows = in_order(refusals)
    lines = [f"  {origin}: {reason}" for _, origin, reason in rows]
    count = f"{len(rows)} nodes" if len(rows) > 1 else "1 node"
    return UnsupportedOpError(
        "\n".join([f"{count} of the model cannot be compiled:", *lines]), rows
    )
