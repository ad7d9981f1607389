"""The inside of a recurrent layer: sums, gates and states that its outputs do not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm.numerics.layer import LAYERS
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.types import Array, Op


def trace_layer(op: Op, inputs: Sequence[Array | None], names: Sequence[str]) -> dict[str, Array]:
    """Run a layer and keep values of its cell, frames in the order in which they are walked.

    Args:
        op: a recurrent operator, float or quantized.
        inputs: as the operator takes them.
        names: of sums, values and states (after a frame) of the cell.

    Shapes:
        each (D, T, B, H).
    """
    kept: dict[str, list[Array]] = {name: [] for name in names}

    def observe(name: str, value: Array) -> None:
        if name in kept:
            kept[name].append(value)

    kind, fields = executed(op, inputs)
    with np.errstate(all="ignore"):
        y, *_ = LAYERS[kind](fields)(inputs, observe)
    steps, count = y.shape[:2]
    return {
        name: np.stack(found).reshape(count, steps, *found[0].shape) for name, found in kept.items()
    }
