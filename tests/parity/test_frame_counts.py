"""What derives from the number of frames is computed for every number of them, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgelstm_compiler import compile_model
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.frame_models import (
    FEATURES,
    HIDDEN,
    TO_THE_END,
    branch,
    lstm,
    model,
    node,
    number_of_frames,
)
from tests.fuzz.frame_counts import judge
from tests.oracle import assert_close, run_onnxruntime

Array = NDArray[Any]

STORED: dict[str, Array] = {
    "begin": np.array([0]),
    "end": np.array([TO_THE_END]),
    "int32_end": np.array([1 << 31]),
    "minus_one": np.array([-1]),
    "newest": np.array(-1),
    "largest": np.array((1 << 31) - 1),
    "eight": np.array(8),
    "thirty": np.array(30),
    "first_thirty": np.array([30]),
    "last_thirty": np.array([-30]),
    "frames_of_y": np.array([HIDDEN]),
    "rest_of_y": np.array([1, 1, HIDDEN]),
    "rest_axes": np.array([1, 2, 3]),
    "half": np.array([0.5], np.float32),
}
T = number_of_frames()
T1 = [*T, node("Unsqueeze", ["t", "first_axis"], ["t1"])]


def scaled(*nodes: Any) -> list[Any]:
    """Y times the float of `m`, which these nodes compute from `t`."""
    cast = node("Cast", ["m"], ["f"], to=onnx.TensorProto.FLOAT)
    return [lstm(), *T, *nodes, cast, node("Mul", ["Y", "f"], ["out"])]


def chosen(condition: str, bound: str) -> list[Any]:
    """-Y or Y, by a comparison of the number of frames."""
    branches = {"then_branch": branch("Neg", "Y"), "else_branch": branch("Identity", "Y")}
    return [
        lstm(),
        *T,
        node(condition, ["t", bound], ["c"]),
        node("If", ["c"], ["out"], **branches),
    ]


STREAMS: dict[str, list[Any]] = {
    "the newest by slice": [lstm(), node("Slice", ["Y", "minus_one", "end"], ["out"])],
    "the newest by T - 1": [
        *[lstm(), *T, node("Sub", ["t", "one"], ["last"])],
        node("Gather", ["Y", "last"], ["out"]),
    ],
    "the newest of a crop": [
        *[lstm(), node("Slice", ["Y", "last_thirty", "end"], ["cut"])],
        node("Gather", ["cut", "newest"], ["out"]),
    ],
    "all by T": [lstm(), *T1, node("Slice", ["Y", "begin", "t1"], ["out"])],
    "all by a large end": [lstm(), node("Slice", ["Y", "begin", "int32_end"], ["out"])],
    "a shape of T": [
        *[lstm(), *T1, node("Concat", ["t1", "frames_of_y"], ["to"], axis=0)],
        node("Reshape", ["Y", "to"], ["out"]),
    ],
    "zeros for every frame": [
        *[lstm(), *T1, node("Concat", ["t1", "rest_of_y"], ["to"], axis=0)],
        *[node("Expand", ["half", "to"], ["again"]), node("Add", ["Y", "again"], ["out"])],
    ],
    "T - T": scaled(node("Sub", ["t", "t"], ["m"])),
    "min(T, 1)": scaled(node("Min", ["t", "one"], ["m"])),
    "min(T, the largest int32) / T": scaled(
        node("Min", ["t", "largest"], ["n"]), node("Div", ["n", "t"], ["m"])
    ),
    "T / T": scaled(node("Div", ["t", "t"], ["m"])),
    "if T > 0": chosen("Greater", "zero"),
    "if min(T, 8) < 0": [
        *[lstm(), *T, node("Min", ["t", "eight"], ["m"]), node("Less", ["m", "zero"], ["c"])],
        node(
            *("If", ["c"], ["out"]),
            then_branch=branch("Neg", "Y"),
            else_branch=branch("Identity", "Y"),
        ),
    ],
}

REFUSED: dict[str, tuple[list[Any], str, str]] = {
    "x[:30]": (
        [node("Slice", ["x", "begin", "first_thirty"], ["cut"]), lstm("cut", ("", "out"))],
        "Slice #0",
        r"\[0:30\] of T.*no fixed beginning",
    ),
    "x[-30:]": (
        [node("Slice", ["x", "last_thirty", "end"], ["cut"]), lstm("cut", ("", "out"))],
        "Slice #0",
        r"\[-30:\] of T.*no fixed beginning",
    ),
    "Y[:30][-1]": (
        [
            *[lstm(), node("Slice", ["Y", "begin", "first_thirty"], ["cut"])],
            node("Gather", ["cut", "newest"], ["out"]),
        ],
        "Slice #1",
        r"\[0:30\] of T",
    ),
    "Y * min(T, 8)": (
        scaled(node("Min", ["t", "eight"], ["m"])),
        "Mul #5",
        "'f' depends on the number of frames .by Min #3.",
    ),
    "Y * max(T, 8)": (scaled(node("Max", ["t", "eight"], ["m"])), "Mul #5", "by Max #3"),
    "Y * T": (scaled(node("Identity", ["t"], ["m"])), "Mul #5", "depends on the number"),
    "Y * (T // 30)": (scaled(node("Div", ["t", "thirty"], ["m"])), "Mul #5", "by Div #3"),
    "Y * (T % 30)": (scaled(node("Mod", ["t", "thirty"], ["m"])), "Mul #5", "by Mod #3"),
    "if T > 30": (chosen("Greater", "thirty"), "If #4", "which branch it takes"),
    "if T == 30": (chosen("Equal", "thirty"), "If #4", "which branch it takes"),
    "positions": (
        [
            *[lstm(), *T, node("Range", ["zero", "t", "one"], ["n"])],
            *[node("Cast", ["n"], ["f"], to=1), node("Unsqueeze", ["f", "rest_axes"], ["table"])],
            node("Add", ["Y", "table"], ["out"]),
        ],
        "Add #6",
        "by Range #3",
    ),
    "T as an output": (
        [lstm(), *T, node("Cast", ["t"], ["out"], to=1)],
        "output 'out'",
        "depends on the number of frames",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_what_does_not_depend_on_the_number_streams(name: str) -> None:
    """At any number of frames the stream is what ONNX Runtime computes of the model."""
    made = model(STREAMS[name], stored=STORED)
    artifact = compile_model(made, target="reference", check=False)
    x = np.random.default_rng(1).standard_normal((60, 1, FEATURES)).astype(np.float32)
    rows = artifact.session().run(x.reshape(60, *artifact.signature.inputs[0].shape))
    (spec,) = artifact.signature.outputs
    for frames in (1, 2, 7, 31, 60):
        expected = run_onnxruntime(made, {"x": x[:frames]})["out"]
        found = rows[frames - 1] if spec.time_axis is None else rows[:frames]
        assert_close(found.reshape(expected.shape), expected, where=f"{frames} frames")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_number_decides_is_refused(name: str) -> None:
    """With the node, the reason, and a way out that works."""
    nodes, origin, reason = REFUSED[name]
    made = model(nodes, stored=STORED)
    with pytest.raises(StreamabilityError, match=reason) as caught:
        compile_model(made, target="reference", check=False)
    assert origin in [where for where, _ in caught.value.reasons]
    assert "--mode call --shape x=30,1,3" in str(caught.value)
    call = compile_model(made, target="reference", mode="call", shapes={"x": (30, 1, 3)})
    x = np.random.default_rng(1).standard_normal((30, 1, FEATURES)).astype(np.float32)
    found = call.session().call(x)
    assert isinstance(found, np.ndarray)
    assert_close(found, run_onnxruntime(made, {"x": x})["out"])


def test_a_length_that_no_trial_reaches_is_refused() -> None:
    """A crop at five million frames: the stream would go wrong after half a day."""
    stored = {"begin": np.array([0]), "many": np.array([5_000_000])}
    made = model(
        [node("Slice", ["x", "begin", "many"], ["cut"]), lstm("cut", ("out",))], stored=stored
    )
    with pytest.raises(StreamabilityError, match=r"\[0:5000000\] of T"):
        compile_model(made, target="reference", check=False)


def test_full_sequence_lens_read_off_the_input_stream() -> None:
    """Lengths that are always all frames say nothing."""
    nodes = [
        *number_of_frames(),
        node("Cast", ["t"], ["t32"], to=onnx.TensorProto.INT32),
        node("Unsqueeze", ["t32", "first_axis"], ["lens"]),
        node("LSTM", ["x", "W", "R", "B", "lens"], ["out"], hidden_size=HIDDEN),
    ]
    assert compile_model(model(nodes), target="reference", check=False).signature.outputs


SINGLE: dict[str, Callable[[], list[Any]]] = {
    "squeeze of all": lambda: [
        lstm(),
        node("Squeeze", ["Y"], ["flat"]),
        node("Gather", ["flat", "newest"], ["out"]),
    ],
}


@pytest.mark.parametrize("name", SINGLE)
def test_another_model_at_one_frame_is_refused(name: str) -> None:
    """An axis dropped because there is one frame makes the next operator mean another axis."""
    with pytest.raises(StreamabilityError, match="another one at a single frame"):
        compile_model(model(SINGLE[name](), stored=STORED), target="reference", check=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 12, 24, 36])
def test_random_models_are_right_or_refused_for_a_reason(first: int) -> None:
    """A few of what `make fuzz-frames` judges by the thousand."""
    verdicts = [judge(seed) for seed in range(first, first + 12)]
    assert not [verdict for verdict in verdicts if verdict.is_wrong]
    assert sum(verdict.kind == "compiled" for verdict in verdicts) >= 4
