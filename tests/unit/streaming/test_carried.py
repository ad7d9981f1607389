"""Models whose states are inputs and outputs: pairs, steps, overlaps, refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.errors import ModelError
from edgelstm_compiler import compile_model
from edgelstm_compiler.binding.carried import find_carried
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.carry.assignment import assign, best_with_a_row_left
from edgelstm_compiler.streaming.carry.names import name_evidence
from edgelstm_compiler.streaming.carry.pairing import AmbiguousStatesError
from tests.carried_models import CarriedCase, anonymous, make_case

SEEDS = range(40)


def stepped(case: CarriedCase, steps: int, target: str, seed: int) -> np.ndarray:
    """What the compiled model shows, (steps, elements)."""
    artifact = compile_model(case.model, target=target)
    frames = case.frames(steps, seed)
    rows = []
    with artifact.session() as session:
        for index in range(steps):
            given = {
                spec.name: frames[spec.name][index].reshape(spec.shape)
                for spec in artifact.signature.inputs
            }
            rows.append(np.array(session.step(given)).reshape(-1))
    return np.stack(rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_equal_onnx_runtime_with_the_state_fed_back(seed: int) -> None:
    """Pairs are found without being told, states hidden, every step as ONNX Runtime's."""
    case = make_case(seed)
    found = stepped(case, 6, "reference", seed)
    wanted = case.replay(case.frames(6, seed))[case.shown[0]].reshape(6, -1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.tvm
@pytest.mark.parametrize("seed", [0, 1, 3, 6, 12])
def test_native_steps_equal_onnx_runtime(seed: int) -> None:
    """The compiled code carries the same states."""
    case = make_case(seed)
    found = stepped(case, 6, "host", seed)
    wanted = case.replay(case.frames(6, seed))[case.shown[0]].reshape(6, -1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_are_found_without_names(seed: int) -> None:
    """With names that say nothing the wiring alone gives the same pairs."""
    case = anonymous(make_case(seed), seed)
    found = find_carried(read_model(case.model), {}, CarryRequest())
    assert found is not None
    assert found.carried.by_input == dict(case.pairs)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    outputs: list[str],
    stored: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A small float model."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(x, n) for n, x in (stored or {}).items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def accumulator(before: str = "s_in", after: str = "s_out", **more: np.ndarray) -> onnx.ModelProto:
    """S' = 0.5 s + x, y = tanh(s')."""
    nodes = [
        helper.make_node("Mul", [before, "half"], ["kept"]),
        helper.make_node("Add", ["kept", "x"], [after]),
        helper.make_node("Tanh", [after], ["y"]),
    ]
    stored = {"half": np.float32([0.5]), **more}
    return model_of(nodes, {"x": [1, 3], before: [1, 3]}, ["y", after], stored)


def test_equally_good_pairs_are_refused_with_the_list() -> None:
    """Two inputs that enter in the same way: both are told, and how to say which."""
    with pytest.raises(AmbiguousStatesError) as caught:
        compile_model(_swapped(), target="reference")
    text = str(caught.value)
    assert "p=r" in text
    assert "q=r" in text
    assert "--carry" in text


def _swapped() -> bytes:
    nodes = [
        helper.make_node("Add", ["p", "q"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["r"]),
    ]
    model = model_of(nodes, {"p": [1, 3], "q": [1, 3]}, ["r"])
    return bytes(model.SerializeToString())


def test_what_the_caller_says_decides() -> None:
    """`carry` settles what is ambiguous."""
    artifact = compile_model(_swapped(), target="reference", carry={"p": "r"})
    assert [spec.name for spec in artifact.signature.inputs] == ["q"]
    assert artifact.manifest["options"]["carry"] == {"p": "r"}


def test_no_carry_leaves_every_input_to_the_caller() -> None:
    """Without states nothing is carried, so there is no stream; a call takes them all."""
    with pytest.raises(ModelError, match="nothing is carried"):
        compile_model(accumulator(), target="reference", carry=False)
    artifact = compile_model(accumulator(), target="reference", mode="call")
    assert {spec.name for spec in artifact.signature.inputs} == {"x", "s_in"}


@pytest.mark.parametrize(
    ("carry", "said"),
    [
        ({"z": "s_out"}, "no input 'z'"),
        ({"s_in": "z"}, "no output 'z'"),
        ({"s_in": "s_out", "x": "s_out"}, "several inputs"),
    ],
)
def test_pairs_that_the_model_does_not_have_are_refused(carry: dict[str, str], said: str) -> None:
    """The message names what there is."""
    with pytest.raises(ModelError, match=said):
        compile_model(accumulator(), target="reference", carry=carry)


def test_pairs_of_different_shapes_are_refused() -> None:
    """A state has one shape before and after a step."""
    nodes = [
        helper.make_node("Add", ["x", "s"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["r"], keepdims=1),
    ]
    model = model_of(nodes, {"x": [1, 3], "s": [1, 3]}, ["r"])
    with pytest.raises(ModelError, match="one shape"):
        compile_model(model, target="reference", carry={"s": "r"})


def test_a_call_has_nothing_to_carry() -> None:
    """--carry with --mode call is refused."""
    with pytest.raises(ModelError, match="--mode stream"):
        compile_model(accumulator(), target="reference", mode="call", carry={"s_in": "s_out"})


def test_a_first_value_in_the_file_begins_the_stream() -> None:
    """An input with a default starts there, and again after reset."""
    first = np.float32([[1.0, 2.0, 3.0]])
    artifact = compile_model(accumulator(s_in=first), target="reference")
    session = artifact.session()
    zero = np.zeros(artifact.signature.inputs[0].shape, np.float32)
    begun = np.array(session.step(zero))
    np.testing.assert_allclose(begun.reshape(1, 3), np.tanh(0.5 * first), rtol=1e-6)
    session.step(zero)
    session.reset()
    np.testing.assert_array_equal(session.step(zero), begun)


def test_a_guess_is_told() -> None:
    """A pair that rests on the wiring alone is marked in the notes and in the manifest."""
    notes: list[str] = []
    artifact = compile_model(_gated(), target="reference", note=notes.append)
    assert artifact.manifest["carried"]["states"][0]["is_guess"]
    assert any("guess" in note and "--no-carry" in note for note in notes)


def _gated() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["p", "w"], ["u"]),
        helper.make_node("Sigmoid", ["u"], ["g"]),
        helper.make_node("Mul", ["g", "q"], ["m"]),
        helper.make_node("Add", ["m", "u"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    stored = {n: rng.standard_normal((3, 3)).astype(np.float32) for n in "wv"}
    model = model_of(nodes, {"p": [1, 3], "q": [1, 3]}, ["y", "r"], stored)
    return bytes(model.SerializeToString())


def test_two_streams_of_a_recurrent_layer_are_no_state() -> None:
    """A network that can be stepped without is not rewired by the look of an element-wise path."""
    rng = np.random.default_rng(1)
    stored = {
        "W": rng.standard_normal((1, 12, 3)).astype(np.float32),
        "R": rng.standard_normal((1, 12, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R"], ["Y"], hidden_size=3),
        helper.make_node("Squeeze", ["Y", "axis"], ["h"]),
        helper.make_node("Mul", ["h", "gain"], ["y"]),
    ]
    model = model_of(
        nodes,
        {"x": [1, 1, 3], "gain": [1, 1, 3]},
        ["y"],
        {**stored, "axis": np.array([1], np.int64)},
    )
    artifact = compile_model(model, target="reference")
    assert {spec.name for spec in artifact.signature.inputs} == {"x", "gain"}


def test_only_carried_outputs_stay_visible() -> None:
    """A bare cell, all of whose outputs are states, still shows something."""
    nodes = [
        helper.make_node("Add", ["x", "h_in"], ["t"]),
        helper.make_node("Tanh", ["t"], ["h_out"]),
    ]
    model = model_of(nodes, {"x": [1, 3], "h_in": [1, 3]}, ["h_out"])
    artifact = compile_model(model, target="reference")
    assert [spec.name for spec in artifact.signature.outputs] == ["h_out"]
    assert [spec.name for spec in artifact.signature.states] == ["h_in"]


def test_overlap_puts_the_newest_elements_in_front_of_the_next_chunk() -> None:
    """As if the caller had kept them; zeros stand in front of the first chunk."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[5])]
    rng = np.random.default_rng(2)
    w = rng.standard_normal((1, 1, 5)).astype(np.float32)
    model = model_of(nodes, {"x": [1, 1, 12]}, ["y"], {"w": w})
    artifact = compile_model(model, target="reference", overlap=4)
    (spec,) = artifact.signature.inputs
    assert spec.nbytes == 8 * 4
    signal = rng.standard_normal(40).astype(np.float32)
    session = artifact.session()
    found = [
        np.array(session.step(signal[at : at + 8].reshape(spec.shape))).reshape(-1)
        for at in range(0, 40, 8)
    ]
    padded = np.concatenate([np.zeros(4, np.float32), signal])
    wanted = np.correlate(padded, w[0, 0], "valid")
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("overlap", "said"),
    [(12, "at least one has to be new"), ({"z": 2}, "no such input"), ({"x@7": 2}, "x@7")],
)
def test_overlaps_that_do_not_fit_are_refused(overlap: object, said: str) -> None:
    """The message names the input and its extent."""
    nodes = [helper.make_node("Tanh", ["x"], ["y"])]
    model = model_of(nodes, {"x": [1, 12]}, ["y"])
    with pytest.raises(ModelError, match=said):
        compile_model(model, target="reference", overlap=overlap)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [
        ("h0", "hn", 2.0),
        ("state", "stateN", 2.0),
        ("prev_h", "next_h", 2.0),
        ("cache_in", "cache_out", 2.0),
        ("hidden_state", "h_out", 2.0),
        ("h_1", "h_2", 1.5),
        ("audio_in", "audio_out", 0.0),
        ("input", "output", 0.0),
        ("h", "c", 0.0),
    ],
)
def test_names_tell_states_apart(before: str, after: str, score: float) -> None:
    """Words for before and after are stripped; names of signals say nothing."""
    assert name_evidence(before, after) == score


def test_the_assignment_is_the_best_one() -> None:
    """Beside trying all of them, on random scores."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        rows, columns = rng.integers(1, 5, 2)
        table = {
            (r, c): float(rng.integers(1, 9))
            for r in range(rows)
            for c in range(columns)
            if rng.random() < 0.7
        }

        def best(row: int, taken: frozenset[int], table=table, rows=rows, columns=columns) -> float:
            if row == rows:
                return 0.0
            ways = [best(row + 1, taken)]
            ways += [
                table[row, c] + best(row + 1, taken | {c})
                for c in range(columns)
                if c not in taken and (row, c) in table
            ]
            return max(ways)

        found = assign(rows, columns, table)
        assert sum(table[pair] for pair in found.items()) == pytest.approx(best(0, frozenset()))
        assert len(best_with_a_row_left(rows, columns, table)) < rows


def test_a_state_that_begins_anew_in_every_step_is_told() -> None:
    """An LSTM that takes and gives its h alone: so does the model, and the note names c."""
    rng = np.random.default_rng(1)
    stored = {n: rng.standard_normal((1, 12, 3)).astype(np.float32) for n in "WR"}
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "", "", "h_in"], ["Y", "h_out"], name="cell", hidden_size=3
        )
    ]
    model = model_of(nodes, {"x": [1, 1, 3], "h_in": [1, 1, 3]}, ["Y", "h_out"], stored)
    notes: list[str] = []
    artifact = compile_model(model, target="reference", note=notes.append)
    assert artifact.manifest["options"]["carry"] == {"h_in": "h_out"}
    assert any("begins anew" in note and "c of 'cell'" in note for note in notes)
