"""Layers that give several frames for one: refused in streams, exact where they give one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.walks import is_spread
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.fuzz.stream_replay import expect_equal
from tests.oracle import assert_close, run_onnxruntime

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((2, 2, 4)).astype(np.float32)


def upsampled(op: str, frames: int | str = 16, **attributes: Any) -> onnx.ModelProto:
    """A causal convolution, and behind it a layer over (1, 2, T)."""
    stored = {"w": KERNEL, "scales": np.array([1, 1, 3], np.float32)}
    inputs = ["c", "w"] if op == "ConvTranspose" else ["c", "", "scales"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[3, 0]),
        helper.make_node(op, inputs, ["y"], "up", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, frames])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(data, name) for name, data in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 10
    return made


@pytest.mark.parametrize("pads", [[0, 0], [1, 2], [3, 0]])
def test_a_transposed_convolution_of_stride_one_streams(pads: list[int]) -> None:
    """It is a convolution, with a frame for each."""
    for frames in (16, "T"):
        made = upsampled("ConvTranspose", frames, pads=pads)
        artifact = compile_model(made, target="reference")
        assert expect_equal(artifact, made, 16, 1)


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("ConvTranspose", {"strides": [2]}, "gives 2 frames for one"),
        ("Resize", {"mode": "nearest"}, "gives 3 frames for one"),
        ("Resize", {"mode": "linear"}, "gives 3 frames for one"),
        (
            "Resize",
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
            "gives 3 frames for one",
        ),
    ],
)
def test_several_frames_for_one_are_refused(
    op: str, attributes: dict[str, Any], reason: str
) -> None:
    """By name, and exact in the modes that the error names."""
    made = upsampled(op, **attributes)
    with pytest.raises(StreamabilityError, match=reason) as caught:
        compile_model(made, target="reference", mode="stream")
    assert caught.value.reasons[0][0] == f"{op} 'up'"
    assert {way.mode for way in caught.value.ways} == {"call", "window"}
    x = RNG.standard_normal((1, 2, 16)).astype(np.float32)
    found = compile_model(made, target="reference", mode="call").session().call(x)
    assert_close(found, run_onnxruntime(made, {"x": x})["y"])


@pytest.mark.parametrize(
    ("places", "is_so"),
    [
        ([0, 0, 1, 1, 2, 2], True),
        ([0, 0, 1, 2, 2], True),
        ([0, 1, 2], False),
        ([0, 2, 2, 2], False),
    ],
)
def test_which_gathers_spread_frames(places: list[int], is_so: bool) -> None:
    """From the first to the last, none left out, some repeated."""
    assert is_spread(np.array(places), 3) is is_so
