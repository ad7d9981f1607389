"""What free dimensions are: time, batch, or told by the user; and models of a single frame."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler import compile_model
from edgelstm_compiler.binding import Binding, bind_call, bind_stream
from edgelstm_compiler.inspection import inspect_model
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.frame_models import FEATURES, HIDDEN, lstm, model, node
from tests.oracle import assert_close, run_onnxruntime


def bound(nodes: list[Any], inputs: dict[str, Any] | None = None, **options: Any) -> Binding:
    """The model of these nodes, bound for a stream."""
    return bind_stream(read_model(model(nodes, inputs, **options)), {})


SUM = [node("Add", ["x", "u"], ["s"]), lstm("s", ("out",))]
WIDE = [
    *[node("Transpose", [name], [f"{name}t"], perm=[1, 0, 2]) for name in ("x", "u")],
    *[node("Concat", ["xt", "ut"], ["s"], axis=2), lstm("s", ("out",))],
]
TWO = [
    *[lstm("x", ("", "h")), lstm("u", ("", "g"))],
    node("Concat", ["h", "g"], ["out"], axis=2),
]


@pytest.mark.parametrize(
    ("nodes", "inputs"),
    [
        (SUM, {"x": ("t_acc", 1, 3), "u": ("t_gyro", 1, 3)}),
        (WIDE, {"x": (None, None, 2), "u": (None, None, 1)}),
        (TWO, {"x": ("t_acc", 1, 3), "u": ("t_gyro", 1, 3)}),
        (TWO, {"x": (None, None, 3), "u": (None, None, 3)}),
        (SUM, {"x": ("T", "N", 3), "u": ("T", "batch", 3)}),
    ],
)
def test_time_dimensions_that_meet_are_one(nodes: list[Any], inputs: dict[str, Any]) -> None:
    """Whatever they are called, every input of a stream gives one frame a step."""
    found = bound(nodes, inputs)
    assert {name for name, _ in found.free_time} == {"x", "u"}
    shapes = found.shapes_for(5)
    assert all(5 in shape for shape in shapes.values())


def test_two_inputs_stream_as_onnx_runtime_computes_them() -> None:
    """Keras' (None, None, F) beside another."""
    made = model(WIDE, {"x": (None, None, 2), "u": (None, None, 1)})
    session = compile_model(made, target="reference").session()
    rng = np.random.default_rng(0)
    x = {n: rng.standard_normal((1, 9, f)).astype(np.float32) for n, f in (("x", 2), ("u", 1))}
    rows = session.run(
        {name: data.reshape(9, 1, -1) if False else data[0] for name, data in x.items()}
    )
    assert isinstance(rows, np.ndarray)
    expected = run_onnxruntime(made, x)["out"]
    assert_close(rows.reshape(expected.shape), expected)


REFUSALS: list[tuple[list[Any], dict[str, Any], str]] = [
    (SUM, {"x": ("time", 1, 3), "u": (50, 1, 3)}, r"\(time, 1, 3\).*\(50, 1, 3\)"),
    (WIDE, {"x": (1, "time", 2), "u": (1, 50, 1)}, r"\(50, 1, 1\).*\(time, 1, 2\)"),
]


@pytest.mark.parametrize(("nodes", "inputs", "match"), REFUSALS)
def test_messages_bear_the_names_of_the_model(
    nodes: list[Any], inputs: dict[str, Any], match: str
) -> None:
    """No extent that was tried for a free dimension is shown."""
    with pytest.raises(ModelError, match=match) as caught:
        bound(nodes, inputs)
    assert not re.search(r"\b[2-5]\d\d\b", str(caught.value))


def test_an_extent_that_the_weights_settle() -> None:
    """A free number of features is what the layer has weights for."""
    found = bound([lstm("x", ("out",))], {"x": (None, None, None)})
    assert found.shapes_for(5) == {"x": (5, 1, FEATURES)}


def test_dimensions_at_other_places_meet() -> None:
    """Batch first in front of the layer, time first behind it, four names."""
    nodes = [
        *[node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), lstm("xt")],
        *[node("Squeeze", ["Y", "second_axis"], ["y"])],
        node("Concat", ["y", "u"], ["out"], axis=2),
    ]
    found = bound(nodes, {"x": ("batch", "seq", 3), "u": ("seq2", "batch2", 2)})
    assert found.shapes_for(5) == {"x": (1, 5, 3), "u": (5, 1, 2)}


def test_layers_over_a_fixed_and_a_free_length() -> None:
    """The lengths are those of the model."""
    nodes = [lstm("x", ("", "h")), lstm("u", ("", "g")), node("Add", ["h", "g"], ["out"])]
    with pytest.raises(StreamabilityError, match="different lengths: 50, time"):
        bound(nodes, {"x": ("time", 1, 3), "u": (50, 1, 3)})


def test_a_batch_of_many_streams_is_said() -> None:
    """By compile and by inspect."""
    nodes = [lstm("x", ("out",))]
    (note,) = bound(nodes, {"x": ("T", 32, 3)}).notes
    assert "a batch of 32" in note
    assert "32 streams side by side" in note
    assert bound(nodes, {"x": ("T", 1, 3)}).notes == ()
    heard: list[str] = []
    compile_model(model(nodes, {"x": ("T", 32, 3)}), target="reference", note=heard.append)
    assert heard == [note]


ONE_FRAME: dict[str, tuple[list[Any], tuple[Any, ...]]] = {
    "Y": ([lstm("x", ("out",))], (1, 1, 3)),
    "squeeze": ([lstm(), node("Squeeze", ["Y", "second_axis"], ["out"])], (1, 1, 3)),
    "squeeze of all": ([lstm(), node("Squeeze", ["Y"], ["out"])], (1, 1, 3)),
    "rows": ([lstm(), node("Reshape", ["Y", "rows"], ["out"])], (1, 1, 3)),
    "one baked row": ([lstm(), node("Reshape", ["Y", "row"], ["out"])], (1, 1, 3)),
    "flatten": ([lstm(), node("Flatten", ["Y"], ["out"], axis=1)], (1, 1, 3)),
    "first frame": ([lstm(), node("Gather", ["Y", "zero"], ["out"], axis=0)], (1, 1, 3)),
    "final state": ([lstm("x", ("", "out"))], (1, 1, 3)),
    "softmax over the frame axis": (
        [lstm(), node("Softmax", ["Y"], ["p"], axis=0), node("Mul", ["p", "Y"], ["out"])],
        (1, 1, 3),
    ),
    "batch first": (
        [
            *[node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), lstm("xt")],
            *[node("Squeeze", ["Y", "second_axis"], ["s"])],
            node("Transpose", ["s"], ["out"], perm=[1, 0, 2]),
        ],
        (1, 1, 3),
    ),
    "free batch": ([lstm(), node("Reshape", ["Y", "rows"], ["out"])], (1, "N", 3)),
    "no time axis": (
        [node("Unsqueeze", ["x", "first_axis"], ["xx"]), lstm("xx", ("out",))],
        (1, 3),
    ),
}
ROWS = {"rows": np.array([-1, HIDDEN]), "row": np.array([1, HIDDEN])}


@pytest.mark.parametrize("name", ONE_FRAME)
def test_a_model_of_one_frame_is_a_step(name: str) -> None:
    """Its state is carried: frame by frame it computes what the layer computes of all frames."""
    nodes, dims = ONE_FRAME[name]
    session = compile_model(model(nodes, {"x": dims}, stored=ROWS), target="reference").session()
    x = np.random.default_rng(0).standard_normal((6, 1, FEATURES)).astype(np.float32)
    whole = model([lstm("x", ("out",))], {"x": ("T", 1, FEATURES)})
    expected = run_onnxruntime(whole, {"x": x})["out"].reshape(6, HIDDEN)
    shape = session.signature.inputs[0].shape
    rows = [np.array(session.step(frame.reshape(shape))).reshape(HIDDEN) for frame in x]
    assert_close(np.stack(rows), expected)


def test_what_carries_over_is_said() -> None:
    """A model of one frame may have been meant for states in and out."""
    notes = bound([lstm("x", ("out",))], {"x": (1, 1, 3)}).notes
    assert any("states of its recurrent layers are carried" in note for note in notes)


@pytest.mark.parametrize(
    ("nodes", "inputs", "reason"),
    [
        ([lstm("x", ("out",), direction="reverse")], {"x": (1, 1, 3)}, "train a forward layer"),
        (
            [node("LSTM", ["x", "W", "R", "B", "", "h"], ["out"], hidden_size=HIDDEN)],
            {"x": (1, 1, 3), "h": (1, 1, HIDDEN)},
            "zero or constant initial states; --mode call computes one frame from the state that",
        ),
    ],
)
def test_one_frame_is_never_advised_to_be_a_window(
    nodes: list[Any], inputs: dict[str, Any], reason: str
) -> None:
    """--mode call would compute every frame from a zero state."""
    made = model(nodes, inputs)
    with pytest.raises(StreamabilityError, match=reason) as caught:
        compile_model(made, target="reference", carry=False)
    assert "whole windows" not in str(caught.value)


DECODER = [
    lstm("x", ("", "h", "c")),
    node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["out"], hidden_size=HIDDEN),
]


def test_a_decoder_that_starts_where_its_encoder_ended() -> None:
    """Exact in call mode; in a stream refused with what is true."""
    made = model(DECODER)
    with pytest.raises(StreamabilityError, match="as a decoder starts where its encoder ended"):
        compile_model(made, target="reference")
    x = np.random.default_rng(0).standard_normal((12, 1, FEATURES)).astype(np.float32)
    called = compile_model(made, target="reference", mode="call", shapes={"x": (12, 1, 3)})
    found = called.session().call(x)
    assert isinstance(found, np.ndarray)
    assert_close(found, run_onnxruntime(made, {"x": x})["out"])


def test_a_graph_without_a_name() -> None:
    """ONNX Runtime asks for none."""
    made = model([lstm("x", ("out",))])
    made.graph.name = ""
    assert compile_model(made, target="reference").name == "model"


def test_inspect_and_compile_agree(tmp_path: Any) -> None:
    """What inspect calls a stream compiles as one, and the other way round."""
    path = tmp_path / "m.onnx"
    thirty = {"begin": np.array([0]), "thirty": np.array([30])}
    for nodes in (DECODER, [lstm(), node("Slice", ["Y", "begin", "thirty"], ["out"])], SUM[1:]):
        made = model(nodes, {"s": ("T", 1, 3)} if nodes == SUM[1:] else None, stored=thirty)
        path.write_bytes(made.SerializeToString())
        streams = inspect_model(path)["streamable"]
        try:
            compile_model(path, target="reference")
        except ModelError:
            assert not streams
        else:
            assert streams


def test_a_window_beyond_memory_is_refused_before_anything_is_allocated() -> None:
    """With the estimate and what to do."""
    read = read_model(model([lstm("x", ("out",))], {"x": ("T", "N", FEATURES)}))
    for bind in (bind_call, bind_stream):
        with pytest.raises(ShapeError, match=r"has 30000000 frames, at most.*fewer by --shape"):
            bind(read, {"x": (30_000_000, 1, 3)})
        with pytest.raises(ShapeError, match=r"takes about \d\.\d GB.*fewer frames by --shape"):
            bind(read, {"x": (10_000, 2_000, 3)})


def test_too_many_operations_are_refused_before_anything_is_stepped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compilers would take minutes for them; copies that are rolled back count once."""

    def fail(*_: Any) -> None:
        raise AssertionError("stepped at many numbers of frames")

    monkeypatch.setattr("edgelstm_compiler.binding.bind.expect_one_step", fail)
    names = ["Y", *(f"v{place}" for place in range(5000)), "out"]
    chain = [node("Tanh", [a], [b]) for a, b in itertools.pairwise(names)]
    with pytest.raises(ModelError, match="operations a step, at most 4000 are compiled"):
        compile_model(model([lstm(), *chain]), target="reference", check=False)
