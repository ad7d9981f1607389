"""Models in float16, float64 and bfloat16: types at the edges kept, arithmetic in float32."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm.dtypes import DType, _bfloat16
from edgelstm.errors import (
    CapabilityError,
    ModelError,
    NonFiniteSampleError,
    SampleTypeWarning,
)
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.evaluate import evaluate
from tests.models import lstm_model, stacked_model
from tests.oracle import assert_close, random_inputs
from tests.unit.onnx_import.one_node import check_node, graph_model, imported, kinds, normal
from tests.unit.runtime.command_line import invoke

Array = NDArray[Any]
KINDS = {
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16,
}
BFLOAT16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)


def dtype_of(kind: str) -> np.dtype[Any]:
    """NumPy's type."""
    return helper.tensor_dtype_to_np_dtype(KINDS[kind])


def retyped(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """The model with every float32 tensor, input and output in another float."""
    found = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in found.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            data = numpy_helper.to_array(tensor).astype(dtype_of(kind))
            tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))
    for item in (*found.graph.input, *found.graph.output):
        if item.type.tensor_type.elem_type == TensorProto.FLOAT:
            item.type.tensor_type.elem_type = KINDS[kind]
    return found


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("mode", ["stream", "call"])
def test_a_model_keeps_its_types_at_the_edges(kind: str, mode: Any) -> None:
    """Samples and results have the file's type; the deviation is told in its last places."""
    model = retyped(lstm_model(features=3, hidden=4, steps=5), kind)
    notes: list[str] = []
    artifact = compile_model(model, target="reference", mode=mode, note=notes.append)
    specs = (*artifact.signature.inputs, *artifact.signature.outputs)
    assert {spec.dtype.numpy.name for spec in specs} == {kind}
    check = artifact.manifest["check"]
    assert check["done"]
    assert set(check["last_place"]) == {spec.name for spec in artifact.signature.outputs}
    assert any(f"last place of {kind}" in text for text in notes)
    if kind != "float64":
        assert max(check["last_place"].values()) <= 1


@pytest.mark.tvm
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_compiled_code_casts_at_the_edges(kind: str) -> None:
    """Half precisions in and out of native code, checked against float64."""
    model = retyped(stacked_model(ops=["LSTM", "GRU"], features=3, hidden=4, steps=4), kind)
    check = compile_model(model, mode="call").manifest["check"]
    assert check["done"]
    assert max(check["last_place"].values()) <= 1


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("op", ["Tanh", "Softmax", "ReduceMean", "Gelu"])
def test_operators(kind: str, op: str) -> None:
    """Every operator computes what it does in float32 on the same numbers."""
    x = normal(3, 4).astype(dtype_of(kind))
    node = helper.make_node(op, ["x"], ["y"])
    model = graph_model([node], {"x": x}, ["y"], opset=20)
    model.graph.output[0].type.tensor_type.elem_type = KINDS[kind]
    found = evaluate(imported(model), {"x": x}).outputs["y"]
    plain = graph_model([node], {"x": x.astype(np.float32)}, ["y"], opset=20)
    wanted = evaluate(imported(plain), {"x": x.astype(np.float32)}).outputs["y"]
    assert found.dtype == dtype_of(kind)
    assert np.array_equal(found, wanted.astype(dtype_of(kind)))


def test_half_precision_inside() -> None:
    """Between casts: what goes to float16 is rounded to it, as ONNX Runtime does."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    x, w = normal(50), np.full(50, 2, np.float16)
    graph = imported(graph_model(nodes, {"x": x}, ["y"], {"w": w}))
    wanted = 2 * x.astype(np.float16).astype(np.float32)
    assert np.array_equal(evaluate(graph, {"x": x}).outputs["y"], wanted)


def test_bfloat16_weights_and_casts() -> None:
    """Weights in bfloat16 are read exactly; a cast of computed numbers rounds as the type does."""
    w = normal(4, 5).astype(BFLOAT16)
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["b", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    x = 100 * normal(3, 4)
    model = graph_model(nodes, {"x": x}, ["y"])
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    wanted = x.astype(BFLOAT16).astype(np.float32) @ w.astype(np.float32)
    assert_close(evaluate(imported(model), {"x": x}).outputs["y"], wanted)


def test_bfloat16_rounds_as_the_type() -> None:
    """Halves too, over all finite numbers."""
    bits = np.random.default_rng(0).integers(0, 0x7F7F0000, 5000, dtype=np.uint32)
    halves = (bits & 0xFFFF0000) | 0x8000
    x = np.concatenate([bits, halves]).astype(np.uint32).view(np.float32)
    node = helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16)
    back = helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)
    graph = imported(graph_model([node, back], {"x": x}, ["y"]))
    found = evaluate(graph, {"x": x}).outputs["y"]
    assert np.array_equal(found, x.astype(BFLOAT16).astype(np.float32))


def test_double_shapes_stay_exact() -> None:
    """What the graph counts in float64 is folded in float64."""
    nodes = [
        helper.make_node("Cast", ["n"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["d", "f"], ["m"]),
        helper.make_node("Cast", ["m"], ["k"], to=TensorProto.INT64),
        helper.make_node("Cast", ["k"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "g"], ["y"]),
    ]
    constants = {"n": np.asarray(3), "f": np.asarray(33554433.0)}
    graph = imported(graph_model(nodes, {"x": normal(2)}, ["y"], constants))
    (constant,) = graph.constants
    assert constant.data == np.float32(3 * 33554433)
    assert kinds(graph) == ["Binary"]


def test_mixed_types_are_refused() -> None:
    """A double input of an LSTM with float weights is no valid model."""
    model = lstm_model(features=3, hidden=4, steps=5)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(ModelError, match="element types do not fit"):
        imported(model)


def test_without_the_package_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has NumPy alone is told what is missing."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    _bfloat16.cache_clear()
    with pytest.raises(CapabilityError, match=r"ml_dtypes: pip install 'edgelstm\[bfloat16\]'"):
        _ = DType.BF16.numpy
    _bfloat16.cache_clear()


def test_samples_in_bfloat16(tmp_path: Path) -> None:
    """From lists, other floats and NumPy's files, which know no such type; and into them."""
    model = retyped(lstm_model(features=3, hidden=4, steps=None, outputs=("Y",)), "bfloat16")
    artifact = compile_model(model, target="reference", mode="stream")
    x = normal(4, 3).astype(BFLOAT16)
    wanted = artifact.session().run(x)
    assert wanted.dtype == BFLOAT16
    np.save(tmp_path / "x.npy", x)
    given = [x.tolist(), np.load(tmp_path / "x.npy")]
    assert all(np.array_equal(artifact.session().run(each), wanted) for each in given)
    with pytest.warns(SampleTypeWarning, match=r"astype\(ml_dtypes.bfloat16\)"):
        assert np.array_equal(artifact.session().run(x.astype(np.float32)), wanted)
    with pytest.raises(NonFiniteSampleError, match="is nan"):
        artifact.session().run(np.full((1, 3), np.nan, BFLOAT16))
    artifact.save(tmp_path / "m.edgelstm")
    found = tmp_path / "y.npy"
    invoke("run", tmp_path / "m.edgelstm", "--input", tmp_path / "x.npy", "--output", found)
    assert np.load(found).dtype == np.float32
    assert np.array_equal(np.load(found), wanted)


@pytest.mark.tvm
def test_bfloat16_in_c(tmp_path: Path) -> None:
    """A Cortex-M moves the bits; the header says whose they are."""
    model = retyped(lstm_model(features=3, hidden=4, steps=None, outputs=("Y",)), "bfloat16")
    artifact = compile_model(model, target="cortex-m4", mode="stream", check=False)
    artifact.save(tmp_path / "m.edgelstm")
    invoke("export-c", tmp_path / "m.edgelstm", "-o", tmp_path / "c")
    (header,) = (tmp_path / "c").rglob(f"{artifact.name}.h")
    text = header.read_text()
    assert "uint16_t X[3]" in text
    assert "bfloat16 bits" in text


def test_float64_against_onnx_runtime() -> None:
    """A product and a function in float64, whose weights become float32."""
    graph = check_node("MatMul", [normal(2, 3), normal(3, 4)])
    assert DType.F32 in {value.type.dtype for value in graph.inputs}
    x, w = normal(2, 3).astype(np.float64), normal(3, 4).astype(np.float64)
    model = graph_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": x}, ["y"], {"w": w})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    found = evaluate(imported(model), {"x": x}).outputs["y"]
    assert found.dtype == np.float64
    assert_close(found, x @ w)


def test_random_inputs_have_the_models_type() -> None:
    """The tests' own inputs follow the model."""
    model = retyped(lstm_model(features=3, hidden=4, steps=5), "float16")
    assert {x.dtype.name for x in random_inputs(model).values()} == {"float16"}
