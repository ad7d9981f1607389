"""A body once a frame, with values that it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Apply = Callable[[str, Mapping[str, Any], Sequence["Array | None"]], "list[Array]"]


def scan(fields: Mapping[str, Any], inputs: Sequence[Array | None], apply: Apply) -> list[Array]:
    """Carried values after the last frame, then the rows of the results.

    Args:
        fields: body (inputs, nodes, outputs), states, sequences, length.
        inputs: carried values, sequences, what stays the same.
        apply: computes an operator of the body.
    """
    body, length = fields["body"], fields["length"]
    behind = fields["states"] + fields["sequences"]
    carried, held = list(inputs[: fields["states"]]), list(inputs[behind:])
    sequences = inputs[fields["states"] : behind]
    nodes = [(*next(iter(node["op"].items())), node["inputs"]) for node in body["nodes"]]
    rows: list[list[Array]] = [[] for _ in body["outputs"][len(carried) :]]
    for frame in range(length):
        values = [*carried, *(None if x is None else x[frame] for x in sequences), *held]
        for kind, op, numbers in nodes:
            given = [None if number is None else values[number] for number in numbers]
            values += apply(kind, op, given)
        outputs = [_present(values[number]) for number in body["outputs"]]
        carried = list(outputs[: len(carried)])
        for found, row in zip(rows, outputs[len(carried) :], strict=True):
            found.append(row)
    return [*(_present(item) for item in carried), *(np.stack(found) for found in rows)]


def _present(value: Array | None) -> Array:
    assert value is not None
    return np.asarray(value)
