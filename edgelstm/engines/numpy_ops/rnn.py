"""The simple recurrent cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.recurrence import CellWeights, States, Step, run_layer

Array = NDArray[Any]


def rnn(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y and Y_h of an RNN layer.  Source: ONNX operators, RNN-22."""
    return run_layer(fields, inputs, gates=1, functions=1, state_count=1, make_step=_cell)


def _cell(weights: CellWeights) -> Step:
    def step(products: Array, states: States) -> States:
        (h,) = states
        return (weights.activate(0, products + (h @ weights.recurrent + weights.recurrent_bias)),)

    return step
