"""The GRU cell, with the reset gate before or after the recurrent product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.recurrence import CellWeights, States, Step, run_layer

Array = NDArray[Any]


def gru(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y and Y_h of a GRU layer.  Source: ONNX operators, GRU-22."""
    make_step = partial(_cell, bool(fields["linear_before_reset"]))
    return run_layer(fields, inputs, gates=3, functions=2, state_count=1, make_step=make_step)


def _cell(linear_before_reset: bool, weights: CellWeights) -> Step:
    recurrent_n = weights.gate(weights.recurrent, 2)
    bias_n = weights.gate(weights.recurrent_bias, 2)

    def step(products: Array, states: States) -> States:
        (h,) = states
        recurrent = h @ weights.recurrent + weights.recurrent_bias
        z = weights.activate(0, weights.gate(products, 0) + weights.gate(recurrent, 0))
        r = weights.activate(0, weights.gate(products, 1) + weights.gate(recurrent, 1))
        if linear_before_reset:
            reset = r * weights.gate(recurrent, 2)
        else:
            reset = (r * h) @ recurrent_n + bias_n
        n = weights.activate(1, weights.gate(products, 2) + reset)
        return ((z.dtype.type(1) - z) * n + z * h,)

    return step
