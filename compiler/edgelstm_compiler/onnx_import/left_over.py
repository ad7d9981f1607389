"""Operators of TensorFlow that tf2onnx left in its file as they were: written in operators of ONNX.

tf2onnx warns of them and goes on, so that Keras' `model.export` gives a file that is no valid ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto, helper

from edgelstm_compiler.onnx_import.order import sub_graphs

Written = Callable[[onnx.NodeProto, str], list[onnx.NodeProto]]


def write_left_over(graph: onnx.GraphProto) -> None:
    """Replace them in a graph and in those inside of it."""
    names = {name for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in sub_graphs(node):
            write_left_over(inner)
        write = WRITTEN.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if write is None or len(node.input) != 1 or len(node.output) != 1:
            nodes.append(node)
            continue
        prefix = f"{node.output[0]}__{node.op_type}"
        while any(name.startswith(prefix) for name in names):
            prefix += "_"
        nodes += write(node, prefix)
    if len(nodes) != len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)


def _erfc(node: onnx.NodeProto, prefix: str) -> list[onnx.NodeProto]:
    """1 - erf(x): Keras' GELU."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    made = [
        helper.make_node("Erf", [node.input[0]], [f"{prefix}_erf"]),
        helper.make_node("Constant", [], [f"{prefix}_float"], value=one),
        helper.make_node("CastLike", [f"{prefix}_float", node.input[0]], [f"{prefix}_one"]),
        helper.make_node("Sub", [f"{prefix}_one", f"{prefix}_erf"], list(node.output)),
    ]
    for k, item in enumerate(made):
        item.name = f"{node.name}_{k}" if node.name else ""
    return made


RANDOM = (
    "TensorFlow's random numbers; take what draws them out of the model (noise, Dropout with "
    "training=True), or build it with training=False"
)

REFUSED: Mapping[str, str] = dict.fromkeys(
    (
        *("RandomStandardNormal", "RandomUniformInt", "StatelessRandomNormalV2"),
        *("StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformIntV2"),
        *("StatelessRandomNormal", "StatelessTruncatedNormal", "StatelessTruncatedNormalV2"),
    ),
    RANDOM,
)
"""What has no meaning here, by name, and why."""

WRITTEN: Mapping[str, Written] = {"Erfc": _erfc}
"""By name of the TensorFlow operator."""
