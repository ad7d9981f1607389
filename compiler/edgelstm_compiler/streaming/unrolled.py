"""Recognizes a recurrence that was unrolled into one copy of its step per frame on export."""

from __future__ import annotations

from collections import Counter

from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Dense, MatMul, Unary


def why_nothing_is_carried(graph: Graph) -> str:
    """Why a model without recurrent layers is no stream; what to export where it had some."""
    copies = count_copies(graph)
    if copies < 2:
        return "it has no LSTM, GRU or RNN layer, so nothing is carried"
    return (
        f"it has no LSTM, GRU or RNN layer: {copies} products share their weights, so the "
        "recurrence was unrolled frame by frame when it was exported. Export the layer itself. "
        "PyTorch: nn.LSTM, nn.GRU or nn.RNN in place of a loop over cells, and "
        "torch.onnx.export(..., dynamo=False) where the newer exporter unrolls it (nn.RNN with "
        "relu). Keras: LSTM, GRU or SimpleRNN with unroll=False on the TensorFlow backend, and "
        "model.export(path, format='onnx'); the torch backend unrolls every layer"
    )


def count_copies(graph: Graph) -> int:
    """How often the same weights are multiplied in a model with functions that gates have."""
    if not any(isinstance(node.op, Unary) for node in graph.nodes):
        return 0
    constants = {constant.value for constant in graph.constants}
    readers = Counter(
        value
        for node in graph.nodes
        if isinstance(node.op, (Dense, MatMul))
        for value in node.inputs[:2]
        if value in constants
    )
    return max(readers.values(), default=0)
