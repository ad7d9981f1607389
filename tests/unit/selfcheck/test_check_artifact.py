"""The self-check sees what is wrong, and accuses nothing that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm.errors import CalibrationError, MismatchError
from edgelstm_compiler import compile_model
from edgelstm_compiler.selfcheck import check_artifact
from tests.models import make_model, stacked_model
from tests.unit.selfcheck.checked_models import (
    cell_arrays,
    forgetful,
    one_layer,
    parts,
    saturated_classifier,
    with_one_weight_off,
)


@pytest.mark.parametrize("weight", ["W", "R", "B", "V", "v"])
@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize(("op", "every_frame"), [("LSTM", True), ("GRU", False), ("RNN", True)])
def test_a_weight_off_by_a_fifth_is_seen_behind_saturation(
    op: str, every_frame: bool, head: str, weight: str
) -> None:
    """Probabilities of 0 and 1 hide nothing: states and logits are compared as well."""
    model = saturated_classifier(op, head, every_frame=every_frame, seed=3)
    wrong = with_one_weight_off(model, weight, 7)
    artifact = compile_model(wrong, target="reference", check=False)
    with pytest.raises(MismatchError, match="self-check"):
        check_artifact(artifact, *parts(model))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
def test_saturated_classifiers_pass(op: str, head: str) -> None:
    """What is right is not accused, however saturated."""
    model = saturated_classifier(op, head, every_frame=True, seed=3)
    check = compile_model(model, target="reference").manifest["check"]
    assert check["done"]


@pytest.mark.parametrize("head", ["sequence", "last_step", "final_state"])
def test_a_run_that_forgets_its_state_is_seen(head: Any) -> None:
    """Whatever the head: rows behind a cut are compared, not only the last one."""
    model = stacked_model(ops=("LSTM", "GRU"), steps=None, head=head)
    artifact = compile_model(model, target="reference", check=False)
    with pytest.raises(MismatchError, match="differs"):
        check_artifact(forgetful(artifact), *parts(model))


def test_a_run_that_forgets_an_early_state_is_seen() -> None:
    """A cell that itself forgets within a few frames shows it near the cuts only."""
    model = one_layer("GRU", scale=0.05, outputs=("", "Y_h"), shown="Y_h")
    artifact = compile_model(model, target="reference", check=False)
    with pytest.raises(MismatchError):
        check_artifact(forgetful(artifact), *parts(model))


@pytest.mark.parametrize("steps", ["T", 7])
def test_a_run_that_forgets_what_hardly_matters_is_seen(steps: int | str) -> None:
    """States far below the tolerance: `run` must be `step` in their own scale."""
    model = one_layer(
        "LSTM",
        scale=0.05,
        outputs=("", "Y_h"),
        after=[helper.make_node("Mul", ["Y_h", "tiny"], ["out"])],
        shown="out",
        shape=[1, 1, 12],
        steps=steps,
        more={"tiny": np.asarray(np.float32(1e-5))},
    )
    artifact = compile_model(model, target="reference", mode="stream", check=False)
    with pytest.raises(MismatchError, match="run in pieces is not step"):
        check_artifact(forgetful(artifact), *parts(model))


DOMAINS = {
    "Log": ([helper.make_node("Log", ["x"], ["fed"])], {}),
    "Sqrt": ([helper.make_node("Sqrt", ["x"], ["fed"])], {}),
    "Log(1 - x)": (
        [helper.make_node("Sub", ["one", "x"], ["d"]), helper.make_node("Log", ["d"], ["fed"])],
        {"one": np.float32(1)},
    ),
    "Sqrt(-x)": (
        [helper.make_node("Neg", ["x"], ["d"]), helper.make_node("Sqrt", ["d"], ["fed"])],
        {},
    ),
    "Log(x - 500)": (
        [helper.make_node("Sub", ["x", "far"], ["d"]), helper.make_node("Log", ["d"], ["fed"])],
        {"far": np.float32(500)},
    ),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_input_is_drawn_where_the_model_is_defined(name: str) -> None:
    """Front ends that give NaN on standard normal input are checked on other numbers."""
    before, arrays = DOMAINS[name]
    more = {key: np.asarray(value) for key, value in arrays.items()}
    model = one_layer("LSTM", before=before, frames="fed", more=more)
    check = compile_model(model, target="reference").manifest["check"]
    assert check["done"]
    assert check["domains"]["x"] != "any"


def embedding(vocabulary: int, dtype: int) -> onnx.ModelProto:
    """Ids through a table into an LSTM."""
    rng = np.random.default_rng(3)
    before = [
        helper.make_node("Cast", ["ids"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["E", "i"], ["fed"], axis=0),
    ]
    given = helper.make_tensor_value_info("ids", dtype, ["T", 1])
    more = {"E": rng.standard_normal((vocabulary, 6)).astype(np.float32)}
    return one_layer("LSTM", before=before, frames="fed", given=given, more=more)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("vocabulary", [1, 2, 40])
def test_ids_lie_below_the_vocabulary(vocabulary: int, dtype: int) -> None:
    """Ids in integers or in floats (Keras) are drawn from the whole table, not beyond it."""
    check = compile_model(embedding(vocabulary, dtype), target="reference").manifest["check"]
    assert check["done"]
    assert check["domains"]["ids"] == f"integers 0..{vocabulary - 1}"


def never_defined() -> onnx.ModelProto:
    """Log of what is below zero whatever the input."""
    before = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["n"]),
        helper.make_node("Sub", ["n", "one"], ["d"]),
        helper.make_node("Log", ["d"], ["fed"]),
    ]
    more = {"one": np.asarray(np.float32(1))}
    return one_layer("LSTM", before=before, frames="fed", more=more)


def test_a_model_without_a_domain_is_not_checked() -> None:
    """Where nothing fits the manifest says so, and why."""
    check = compile_model(never_defined(), target="reference").manifest["check"]
    assert check["done"] is False
    assert "not defined on random input" in check["reason"]


@pytest.mark.parametrize(
    ("op", "hidden", "features", "scale"),
    [("GRU", 32, 16, 1.0), ("LSTM", 32, 16, 2.0), ("GRU", 32, 64, 10.0)],
)
def test_large_weights_are_judged_by_float64(
    op: str, hidden: int, features: int, scale: float
) -> None:
    """Two float32 engines differ by more than 1e-5; ours is as near to float64 as the other."""
    model = one_layer(op, hidden=hidden, features=features, scale=scale)
    check = compile_model(model, target="reference").manifest["check"]
    assert check["done"]
    assert check.get("decided_by") == "float64"


def test_large_weights_hide_no_wrong_weight() -> None:
    """The noise of a sensitive network is no licence: a weight off by a fifth is seen there."""
    model = one_layer("GRU", hidden=32, features=16, scale=1.0)
    artifact = compile_model(with_one_weight_off(model, "R", 9), target="reference", check=False)
    with pytest.raises(MismatchError):
        check_artifact(artifact, *parts(model))


def test_a_recording_takes_the_place_of_random_input() -> None:
    """Given recordings are what is compared on, also where random input is no use."""
    model = one_layer("LSTM", before=DOMAINS["Log"][0], frames="fed")
    walk = np.abs(np.random.default_rng(0).standard_normal((50, 6))).astype(np.float32) + 0.5
    check = compile_model(model, target="reference", check_input=walk).manifest["check"]
    assert check["inputs"] == "a recording"


@pytest.mark.parametrize("count", [1, 5, 15, 200])
def test_recordings_of_any_length_are_used(count: int) -> None:
    """Where time is free a short recording is compared as it is, a long one up to 64 frames."""
    walk = np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)
    check = compile_model(one_layer("GRU"), target="reference", check_input=walk).manifest["check"]
    assert check["inputs"] == "a recording"
    assert max(check["lengths"]) == min(count, 64)


def test_a_recording_shorter_than_the_window_is_refused() -> None:
    """Rather than compared on something else without a word."""
    walk = np.zeros((29, 6), np.float32)
    with pytest.raises(CalibrationError, match="at least 30 frames"):
        compile_model(one_layer("GRU", steps=30), target="reference", check_input=walk)


def test_domains_may_differ_by_input() -> None:
    """One input must be positive, the other negative: both are found."""
    arrays = cell_arrays("LSTM", 3, 4, 0.5, 1)
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", 1, 3]) for name in ("a", "b")
    ]
    nodes = [
        helper.make_node("Log", ["a"], ["la"]),
        helper.make_node("Neg", ["b"], ["nb"]),
        helper.make_node("Log", ["nb"], ["lb"]),
        helper.make_node("Add", ["la", "lb"], ["fed"]),
        helper.make_node("LSTM", ["fed", "W", "R", "B"], ["Y"], hidden_size=4),
    ]
    shown = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, 1, 4])]
    model = make_model(nodes, given, shown, arrays)
    check = compile_model(model, target="reference").manifest["check"]
    assert check["domains"] == {"a": "positive", "b": "negative"}


@pytest.mark.parametrize("weight", ["W", "R", "V", "v"])
def test_a_decision_hides_no_wrong_weight(weight: str) -> None:
    """ArgMax shows which class wins; what it chooses from is compared as well."""
    rng = np.random.default_rng(9)
    more = {
        "V": rng.standard_normal((12, 3)).astype(np.float32),
        "v": np.array([50, 0, 0], np.float32),
        "axis": np.array([1], np.int64),
    }
    after = [
        helper.make_node("Squeeze", ["Y", "axis"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["product"]),
        helper.make_node("Add", ["product", "v"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["class"], axis=-1, keepdims=0),
        helper.make_node("Cast", ["class"], ["out"], to=TensorProto.FLOAT),
    ]
    model = one_layer("GRU", after=after, shown="out", shape=["T", 1], more=more)
    compile_model(model, target="reference")
    wrong = with_one_weight_off(model, weight, 0)
    artifact = compile_model(wrong, target="reference", check=False)
    with pytest.raises(MismatchError):
        check_artifact(artifact, *parts(model))
