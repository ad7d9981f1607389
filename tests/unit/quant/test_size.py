"""The size that is promised: packed weights of whole artifacts beside float32."""

from __future__ import annotations

from typing import Any

import pytest

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import Scheme
from tests.models import gru_model, stacked_model
from tests.quantized_models import quantized, step_graph

# As targets/edgelstm_targets/tvm_cpu/target.py packs for x86-64.
UNIT_BLOCK, WEIGHT_OFFSET = 16, 128
SIZES: dict[str, dict[str, Any]] = {
    "(6,32)": {"features": 6, "hidden": 32},
    "(9,64)": {"features": 9, "hidden": 64},
    "(9,128)": {"features": 9, "hidden": 128},
}
LARGE = "(64,256)"
"""Of single layers: second ones repeat them, and take seconds."""
SHARES = {Scheme.INT8: 0.27, Scheme.W4: 0.16}


def weights_bytes(graph: StepGraph) -> int:
    """Bytes of the packed weights."""
    return len(lower(graph, UNIT_BLOCK, None, WEIGHT_OFFSET).weights)


CELLS = ("LSTM", "LSTM LSTM", "GRU", "GRU GRU", "GRU linear")
CASES = [
    *((size, cell) for size in SIZES for cell in CELLS),
    (LARGE, "LSTM"),
    (LARGE, "GRU linear"),
]


@pytest.mark.parametrize(("size", "cell"), CASES)
def test_share_of_float(size: str, cell: str) -> None:
    """int8 takes at most 0.27 of the bytes of float32, w4 at most 0.16."""
    options = {"features": 64, "hidden": 256} if size == LARGE else SIZES[size]
    if cell == "GRU linear":
        graph = step_graph(gru_model(steps=None, linear_before_reset=True, **options))
    else:
        graph = step_graph(stacked_model(steps=None, ops=tuple(cell.split()), **options))
    whole = weights_bytes(graph)
    for scheme, share in SHARES.items():
        assert weights_bytes(quantized(graph, scheme).graph) <= share * whole, scheme
