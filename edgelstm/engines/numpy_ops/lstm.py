"""The LSTM cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.activations import activate
from edgelstm.engines.numpy_ops.recurrence import CellWeights, States, Step, run_layer

Array = NDArray[Any]


def lstm(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y, Y_h and Y_c of an LSTM layer.  Source: ONNX operators, LSTM-22."""
    make_step = partial(_cell, bool(fields["input_forget"]))
    return run_layer(fields, inputs, gates=4, functions=3, state_count=2, make_step=make_step)


def _cell(input_forget: bool, weights: CellWeights) -> Step:
    p_i, p_o, p_f = (
        (None, None, None)
        if weights.peepholes is None
        else (weights.gate(weights.peepholes, index) for index in range(3))
    )

    def step(products: Array, states: States) -> States:
        h, c = states
        sums = products + (h @ weights.recurrent + weights.recurrent_bias)
        i, o, f, g = (weights.gate(sums, index) for index in range(4))
        i = weights.activate(0, i if p_i is None else i + p_i * c)
        if input_forget:
            # From the finished i: the peephole, the bias and the weights of f play no part.
            f = f.dtype.type(1) - i
        else:
            f = weights.activate(0, f if p_f is None else f + p_f * c)
        c = f * c + i * weights.activate(1, g)
        o = weights.activate(0, o if p_o is None else o + p_o * c)
        # Clip bounds the gates only: ONNX Runtime leaves the cell state as it is, here too.
        return o * activate(weights.activations[2], c), c

    return step
