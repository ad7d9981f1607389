"""Identity of compiled models: equal where a state means the same, different where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm.state_conversion import convert_snapshot
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.integer_io import is_exact
from edgelstm_compiler.onnx_import.read import read_model
from tests.models import lstm_model, stacked_model
from tests.unit.runtime.command_line import invoke

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

TARGETS = ("reference", "host", "rpi4", "cortex-m4")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Two recurrent layers and a classifier."""
    return stacked_model(ops=("LSTM", "GRU"), hidden=8, features=3, steps=None, head="sequence")


def quantized(model: onnx.ModelProto, size: float, **options: Any) -> Artifact:
    """In int8-full, calibrated on signals of that size."""
    rng = np.random.default_rng(3)
    frames = (size * np.cumsum(rng.standard_normal((400, 3)), axis=0) * 0.1).astype(np.float32)
    settings = {"target": "reference", "check": False, "name": "m", **options}
    return compile_model(model, quantize="int8-full", calibration=[frames], **settings)


@pytest.mark.parametrize("scheme", [None, "w8"])
def test_targets_share_an_identity(model: onnx.ModelProto, scheme: str | None) -> None:
    """However they pack weights: a snapshot moves between all of them."""
    made = [
        compile_model(model, target=target, quantize=scheme, check=False, name="m")
        for target in TARGETS
    ]
    assert len({artifact.model_id for artifact in made}) == 1
    frames = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    first, second = made[0].session(), made[1].session()
    first.run(frames[:10])
    second.restore(bytes(first.snapshot()))
    np.testing.assert_allclose(second.run(frames[10:]), first.run(frames[10:]), atol=1e-5)


def test_integer_models_move_too(model: onnx.ModelProto) -> None:
    """Bit for bit between NumPy and compiled code."""
    first, second = (quantized(model, 1.0, target=t).session() for t in ("reference", "host"))
    frames = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    first.run(frames[:10])
    second.restore(bytes(first.snapshot()))
    np.testing.assert_array_equal(second.run(frames[10:]), first.run(frames[10:]))


def test_names_units_and_rates_are_no_part_of_it(model: onnx.ModelProto) -> None:
    """What a symbol is called, and what is told to people, changes no number."""
    first = compile_model(model, target="reference", name="a", check=False)
    second = compile_model(model, target="reference", name="b", rate_hz=50.0, check=False)
    assert first.model_id == second.model_id


def test_weights_modes_and_schemes_are_part_of_it(model: onnx.ModelProto) -> None:
    """Each of them makes another function of the state."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = next(item for item in changed.graph.initializer if len(item.dims) == 3)
    array = onnx.numpy_helper.to_array(weights).copy()
    array.flat[0] += 1e-3
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    made = [
        compile_model(model, target="reference", check=False),
        compile_model(changed, target="reference", check=False),
        compile_model(model, target="reference", check=False, quantize="w8"),
        compile_model(model, target="reference", check=False, quantize="fp16"),
        quantized(model, 1.0),
        quantized(model, 3.0),
    ]
    assert len({artifact.model_id for artifact in made}) == len(made)


def test_a_stream_goes_on_under_a_new_calibration(model: onnx.ModelProto, tmp_path: Path) -> None:
    """The snapshot of one calibration is refused by the other, and fits after `convert`."""
    old, new = quantized(model, 1.0), quantized(model, 40.0)
    rng = np.random.default_rng(1)
    frames = (np.cumsum(rng.standard_normal((300, 3)), axis=0) * 0.1).astype(np.float32)
    running = old.session()
    running.run(frames[:200])
    snapshot = running.snapshot()
    with pytest.raises(StreamError, match="snapshot convert"):
        new.session().restore(snapshot)
    old.save(tmp_path / "old.edgelstm")
    new.save(tmp_path / "new.edgelstm")
    (tmp_path / "s").write_bytes(bytes(snapshot))
    options = ("--from", tmp_path / "old.edgelstm", "--to", tmp_path / "new.edgelstm")
    command = ("snapshot", "convert", tmp_path / "s", *options)
    result = invoke(*command, "-o", tmp_path / "t")
    assert result.exit_code == 0, result.stderr
    assert invoke(*command, "-o", tmp_path / "t").exit_code == 6  # it is there already
    goes_on, anew = new.session(), new.session()
    goes_on.restore((tmp_path / "t").read_bytes())
    expected = running.run(frames[200:220])
    assert np.abs(goes_on.run(frames[200:220]) - expected).max() < 0.05
    assert np.abs(anew.run(frames[200:220]) - expected).max() > 0.05
    back, _ = convert_snapshot((tmp_path / "t").read_bytes(), new, old)
    old.session().restore(back)


def test_scales_of_states_stand_in_the_artifact(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Every state that is carried in integers has one."""
    artifact = quantized(model, 1.0)
    artifact.save(tmp_path / "a.edgelstm")
    record = edgelstm.load(tmp_path / "a.edgelstm").manifest["quantization"]["states"]
    integers = {s.name for s in artifact.signature.states if not s.dtype.is_float}
    assert {state["name"] for state in record} == integers != set()
    assert all(state["scale"] > 0 for state in record)


def test_the_digest_of_a_model_covers_its_external_data(tmp_path: Path) -> None:
    """Other weights beside the same file are another model."""
    path = tmp_path / "m.onnx"
    onnx.save(lstm_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    first = read_model(path).sha256
    assert read_model(path).sha256 == first
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert read_model(path).sha256 != first


def test_provenance_names_what_made_the_artifact(model: onnx.ModelProto) -> None:
    """Versions of edgelstm and of the packages that decide what comes out."""
    made = compile_model(model, target="host", check=False).manifest["provenance"]
    assert made["edgelstm"] == edgelstm.__version__
    assert {"numpy", "onnx", "apache-tvm"} <= set(made["packages"])


def softmax_in_front() -> onnx.ModelProto:
    """A Softmax over the features, then a cell."""
    model = lstm_model(features=3, steps=None)
    name = model.graph.input[0].name
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            if value == name:
                node.input[index] = "shares"
    front = onnx.helper.make_node("Softmax", [name], ["shares"], axis=-1, name="front")
    model.graph.node.insert(0, front)
    return model


@pytest.mark.parametrize("check", [True, False])
def test_a_float_operator_in_front_of_a_cell_is_not_bit_exact(check: bool, tmp_path: Path) -> None:
    """Nothing says that every processor computes the same bits, checked or not."""
    front = quantized(softmax_in_front(), 1.0, check=check)
    plain = quantized(lstm_model(features=3, steps=None), 1.0, check=check)
    assert not is_exact(front)
    assert is_exact(plain)
    assert front.manifest["quantization"]["float_operators"] == ["front (Softmax)"]
    front.save(tmp_path / "front.edgelstm")
    plain.save(tmp_path / "plain.edgelstm")
    shown = invoke("inspect", tmp_path / "front.edgelstm").stdout
    assert "not bit-exact: in float32 stays front (Softmax)" in shown
    assert (
        "the same bits on every processor" in invoke("inspect", tmp_path / "plain.edgelstm").stdout
    )
