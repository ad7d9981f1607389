"""The inside of recurrent layers: what a trace shows is what the layer computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import CELLS, GRU
from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.ir.trace import trace_layer

STEPS, BATCH, HIDDEN, FEATURES = 4, 3, 5, 2
LAYERS: list[tuple[type[Recurrent], dict[str, Any]]] = [
    *((cell, {}) for cell in CELLS),
    (GRU, {"linear_before_reset": True}),
]


@pytest.mark.parametrize("direction", list(Direction), ids=lambda each: each.value)
@pytest.mark.parametrize(("kind", "fields"), LAYERS, ids=str)
def test_every_gate_and_state_of_every_frame(
    kind: type[Recurrent], fields: dict[str, Any], direction: Direction
) -> None:
    """One value a frame, in the order of the walk; the last state is the layer's."""
    count = direction.count
    functions = {1: (TANH,), 2: (SIGMOID, TANH), 3: (SIGMOID, TANH, TANH)}
    layer = kind(HIDDEN, direction, (), None, **fields)
    activations = functions[layer.functions] * count
    layer = kind(HIDDEN, direction, activations, None, **fields)
    rng = np.random.default_rng(0)
    rows = layer.gates * HIDDEN
    x, w, r = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((STEPS, BATCH, FEATURES), (count, rows, FEATURES), (count, rows, HIDDEN))
    )
    gates = layer.cell().traced_gates
    names = [name for gate in gates for name in (gate.total, gate.value)]
    found = trace_layer(layer, [x, w, r], [*names, *layer.cell().state_names])
    for name in names:
        assert found[name].shape == (count, STEPS, BATCH, HIDDEN)
    for gate, function in ((gate, found[gate.value]) for gate in gates):
        total = found[gate.total].astype(np.float64)
        expected = 1 / (1 + np.exp(-total)) if gate.range.value == "unit" else np.tanh(total)
        np.testing.assert_allclose(function, expected, atol=1e-6)
