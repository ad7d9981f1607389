"""What a caller sees of a stream that is late, slower than its input, or ends."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm.io.late_rows import LateRows
from edgelstm_compiler.driver import compile_model
from tests.fuzz.stream_replay import expect_equal, expected_outputs, rows_of_model

FRAMES = 12
X = np.random.default_rng(0).standard_normal((FRAMES, 2)).astype(np.float32)


def model(*nodes: onnx.NodeProto, frames: int | str = "T", **stored: object) -> onnx.ModelProto:
    """From x (1, 2, T) to y."""
    tensors = [numpy_helper.from_array(np.asarray(data), name) for name, data in stored.items()]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, frames])]
    shown = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(nodes), "late", given, shown, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 10
    return made


@pytest.fixture(scope="module")
def late() -> Artifact:
    """Kernel of 3 with two frames of padding behind, every second frame: delay 2."""
    weights = np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv", strides=[2], pads=[0, 2])
    return compile_model(model(conv, w=weights), target="reference")


def test_the_signature_tells_rate_delay_and_warm_up(late: Artifact) -> None:
    """As `inspect` shows them."""
    (spec,) = late.signature.outputs
    assert (spec.stride, spec.delay, spec.warm_up) == (2, 2, 2)


def test_a_step_without_news_gives_none(late: Artifact) -> None:
    """Row j comes in step 2 j + 2."""
    with late.session() as session:
        found = [session.step(frame) is not None for frame in X]
    assert found == [step >= 2 and step % 2 == 0 for step in range(FRAMES)]


def test_a_snapshot_carries_the_clock(late: Artifact) -> None:
    """A stream goes on in another session where it was, also what is left at its end."""
    with late.session() as one, late.session() as other:
        one.run(X[:5])
        other.restore(one.snapshot())
        for _ in range(2):
            np.testing.assert_array_equal(one.run(X[5:]), other.run(X[5:]))
            np.testing.assert_array_equal(one.finish(), other.finish())
            one.reset()
            other.reset()
            other.run(X[:5])
            one.run(X[:5])


def test_a_stream_that_ended_takes_no_frame_before_a_reset(late: Artifact) -> None:
    """Neither by step nor by run, and it does not end twice."""
    with late.session() as session:
        session.run(X)
        session.finish()
        for feed in (lambda: session.step(X[0]), lambda: session.run(X), session.finish):
            with pytest.raises(StreamError, match=r"ended behind frame 11: reset\(\)"):
                feed()
        session.reset()
        assert session.step(X[0]) is None


def test_finish_of_a_stream_that_is_not_late_gives_nothing() -> None:
    """And it goes on."""
    weights = np.ones((2, 2, 3), np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[2, 0])
    with compile_model(model(conv, w=weights), target="reference").session() as session:
        session.run(X)
        assert session.finish().shape == (0, 2)
        assert session.step(X[0]).shape == (2,)


def test_a_stream_ends_where_its_table_ends() -> None:
    """A positional table of 12 rows: frame 12 is an error, and the frames before are exact."""
    table = np.random.default_rng(2).standard_normal((1, 2, FRAMES)).astype(np.float32)
    kernel = np.ones((2, 2, 2), np.float32)
    nodes = [
        helper.make_node("Add", ["x", "p"], ["a"], "position"),
        helper.make_node("Conv", ["a", "w"], ["y"], "conv", pads=[1, 0]),
    ]
    made = model(*nodes, frames=FRAMES, p=table, w=kernel)
    artifact = compile_model(made, target="reference")
    assert artifact.signature.most_frames == FRAMES
    wanted = expected_outputs(made, X.T[None])
    assert wanted is not None
    with artifact.session() as session:
        rows = session.run(X)
        np.testing.assert_allclose(
            rows, rows_of_model(wanted["y"], artifact.signature.outputs[0]), 1e-5, 1e-6
        )
        for feed in (lambda: session.step(X[0]), lambda: session.run(X[:1])):
            with pytest.raises(StreamError, match=r"frame 12 of the stream.*table for 12 frames"):
                feed()
        session.reset()
        with pytest.raises(StreamError, match="table for 12 frames"):
            session.run(np.concatenate([X, X]))
        np.testing.assert_array_equal(session.run(X), rows)


def test_lines_hold_what_all_outputs_say_of_a_frame(late: Artifact) -> None:
    """Rows stand beside what passes through of their own frame."""
    lines = LateRows(late.signature)
    row = np.ones((1, 2), np.float32)
    lines.add({"y": row[:0]}, {"t": ["a", "b"]}, 2)
    assert lines.ready() is None
    lines.add({"y": row}, {"t": ["c"]}, 1)
    found = lines.ready()
    assert found is not None
    assert found[1] == {"t": ["a"]}
    lines.add({"y": 2 * row}, {}, 0)
    found = lines.ready(is_over=True)
    assert found is not None
    assert found[1] == {"t": ["c"]}
    np.testing.assert_array_equal(found[0]["y"], 2 * row)


@pytest.mark.parametrize(("pads", "delay"), [([1, 1], 0), ([0, 4], 1), ([2, 0], 0)])
def test_a_sum_of_what_stands_before_waits_for_nothing_else(pads: list[int], delay: int) -> None:
    """Behind a layer that looks ahead, each sum is there with the element before its own."""
    kernel = np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["s"], "conv", pads=pads),
        helper.make_node("CumSum", ["s", "a"], ["y"], "sum", exclusive=1),
    ]
    made = model(*nodes, w=kernel, a=np.array(2))
    artifact = compile_model(made, target="reference")
    assert artifact.signature.outputs[0].delay == delay
    assert expect_equal(artifact, made, FRAMES, 0)
