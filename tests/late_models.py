"""Models of two channels whose outputs come later than their frames, or slower."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm_compiler.driver import compile_model

Array = NDArray[Any]

_RNG = np.random.default_rng(3)
_KERNELS = {name: _RNG.standard_normal((2, 2, 3)).astype(np.float32) for name in ("a", "b", "c")}

PADDED = (("y", "a", [1, 1], 1),)
"""Centred: every row one frame late, the last behind the end."""

SLOW = (("y", "a", [0, 2], 2),)
"""Every second frame, two frames late."""

TWO = (("y", "a", [1, 1], 1), ("z", "b", [2, 0], 3))
"""One output late, the other every third frame and at once."""

VALID = (("y", "a", [0, 0], 1),)
"""No padding: two rows fewer than frames, and nothing behind the end."""


def late_model(layers: tuple[tuple[str, str, list[int], int], ...], **options: Any) -> Artifact:
    """A convolution for each output: name, weights, padding, stride."""
    nodes = [
        helper.make_node("Conv", ["x", w], [name], f"conv_{name}", pads=pads, strides=[stride])
        for name, w, pads, stride in layers
    ]
    stored = [numpy_helper.from_array(_KERNELS[w], w) for w in {layer[1] for layer in layers}]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, "T"])]
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name, *_ in layers]
    made = helper.make_model(
        helper.make_graph(nodes, "late", given, shown, stored),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    made.ir_version = 10
    return compile_model(made, **{"target": "reference", "check": False, **options})


def rows_by_frame(artifact: Artifact, x: Array, *, is_ended: bool = True) -> dict[int, Array]:
    """What all outputs say of a frame, side by side, NaN where one says nothing of it."""
    specs = artifact.signature.outputs
    with artifact.session() as session:
        parts = [session.run(x)] + ([session.finish()] if is_ended else [])
    found: dict[int, Array] = {}
    for place, spec in enumerate(specs):
        rows = np.concatenate([p[spec.name] if isinstance(p, dict) else p for p in parts])
        for row, values in enumerate(rows):
            line = found.setdefault(row * spec.stride, np.full((len(specs), 2), np.nan, "f4"))
            line[place] = values
    return dict(sorted(found.items()))
