"""Frames repeated or mirrored at the ends of a stream (Pad with edge and reflect)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.walks import Beyond, Walk, walk_of
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.fuzz.stream_replay import expect_equal, recording, replay

KERNEL = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)


def padded_model(
    mode: str, before: int, behind: int, form: str, frames: int | str = "T"
) -> onnx.ModelProto:
    """A padding in front of a convolution, in front of a cell's neighbour, or behind one."""
    node, pads = helper.make_node, np.array([0, 0, before, 0, 0, behind])
    nodes = {
        "read by a window": [
            node("Pad", ["x", "pads"], ["p"], "pad", mode=mode),
            node("Conv", ["p", "w"], ["y"], "conv"),
        ],
        "read one by one": [
            node("Pad", ["x", "pads"], ["p"], "pad", mode=mode),
            node("Tanh", ["p"], ["r"], "tanh"),
            node("Conv", ["r", "w"], ["y"], "conv"),
        ],
        "shown": [
            node("Conv", ["x", "w"], ["p"], "conv", pads=[2, 0]),
            node("Pad", ["p", "pads"], ["y"], "pad", mode=mode),
        ],
        "strided": [
            node("Conv", ["x", "w"], ["s"], "slow", strides=[2], pads=[2, 1]),
            node("Pad", ["s", "pads"], ["p"], "pad", mode=mode),
            node("Conv", ["p", "w"], ["y"], "conv", strides=[2], dilations=[2]),
        ],
    }[form]
    stored = [numpy_helper.from_array(pads, "pads"), numpy_helper.from_array(KERNEL, "w")]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, frames])]
    shown = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "padded", given, shown, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    made.ir_version = 10
    return made


def compiled(model: onnx.ModelProto, target: str = "reference") -> Artifact:
    return compile_model(model, target=target, mode="stream", check=False)


@pytest.mark.parametrize(
    ("mode", "before", "behind", "form", "delay"),
    [
        ("edge", 2, 0, "read by a window", 0),  # the first frame is there when it comes
        ("edge", 1, 1, "read by a window", 1),
        ("edge", 0, 2, "read by a window", 2),
        ("edge", 3, 1, "read by a window", 0),
        ("edge", 2, 0, "read one by one", 2),
        ("edge", 3, 1, "shown", 0),
        ("reflect", 1, 1, "read by a window", 1),  # no later than its own newest frame
        ("reflect", 2, 0, "read by a window", 2),  # waits for the farthest frame
        ("reflect", 0, 2, "read by a window", 2),
        ("reflect", 3, 1, "read one by one", 5),
        ("reflect", 3, 1, "shown", 3),
        ("edge", 2, 2, "strided", 4),
        ("reflect", 2, 2, "strided", 4),
        ("reflect", 3, 0, "strided", 6),
    ],
)
def test_a_stream_is_the_sequence(
    mode: str, before: int, behind: int, form: str, delay: int
) -> None:
    """In any chunking and to its end, with the delay that the beginning asks for."""
    for frames, counts in ((12, (12,)), ("T", (12, 17, 40))):
        model = padded_model(mode, before, behind, form, frames)
        artifact = compiled(model)
        assert artifact.signature.outputs[0].delay == delay
        for count in counts:
            assert expect_equal(artifact, model, count, count)


@pytest.mark.tvm
@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_in_machine_code(mode: str) -> None:
    """Computed places in a ring."""
    model = padded_model(mode, 2, 2, "strided")
    assert expect_equal(compiled(model, "host"), model, 23, 1)


@pytest.mark.parametrize("before", [1, 2])
def test_the_first_row_waits_for_what_it_mirrors(before: int) -> None:
    """Without that frame it is another one: the delay is the least one."""
    model = padded_model("reflect", before, 0, "read by a window")
    artifact = compiled(model)
    delay = artifact.signature.outputs[0].delay
    x = recording(model, 10, 0)
    moved = x.copy()
    moved[:, :, delay] += 1.0
    first, second = (replay(artifact, signal, 0)["y"][0] for signal in (x, moved))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("pads", [(2, 0), (0, 2)])
def test_wrapping_is_refused(pads: tuple[int, int]) -> None:
    """Its beginning is its end; the commands that compile it are named."""
    with pytest.raises(StreamabilityError, match="the last frame of a stream is never") as caught:
        compiled(padded_model("wrap", *pads, "read by a window"))
    assert caught.value.reasons[0][0] == "Pad 'pad'"
    assert {way.mode for way in caught.value.ways} == {"call", "window"}


@pytest.mark.parametrize(
    ("places", "walk"),
    [
        ([0, 0, 0, 1, 2, 3, 3], Walk(2, 1, Beyond.EDGE, Beyond.EDGE)),
        ([2, 1, 0, 1, 2, 3], Walk(2, 0, Beyond.REFLECT, Beyond.EDGE)),
        ([0, 1, 2, 3, 2, 1], Walk(0, 2, Beyond.EDGE, Beyond.REFLECT)),
        ([-1, 0, 1, 2, 3], Walk(1, 0, Beyond.WRAP, Beyond.EDGE)),
        ([0, 1, 2, 3], None),
        ([3, 2, 0, 1, 2, 3], None),
        ([0, 1, 3, 2, 2], None),
    ],
)
def test_which_gathers_are_paddings(places: list[int], walk: Walk | None) -> None:
    """All elements in order, and nothing at the ends that none of the modes makes."""
    assert walk_of(np.array(places), 4) == walk
