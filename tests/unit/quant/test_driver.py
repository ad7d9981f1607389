"""compile_model with quantization, through artifact and session of the reference target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import load
from edgelstm.errors import CapabilityError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.graph import constant_data
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.model import QuantizeRequest, quantize_model
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions
from edgelstm_compiler.quant.support import is_layer
from tests.models import lstm_model, stacked_model
from tests.quantized_models import recordings, step_graph

MODEL = stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence", hidden=12)


@pytest.mark.parametrize("scheme", ["fp16", "w8", "w4", "int8", "int8-full"])
def test_artifact_of_every_scheme(tmp_path: Path, scheme: str) -> None:
    """Saved and loaded, the artifact streams close to the float model and says how close."""
    graph = step_graph(MODEL)
    given = recordings(graph, frames=150)
    artifact = compile_model(MODEL, target="reference", quantize=scheme, calibration=given)
    artifact.save(tmp_path / "m.edgelstm")
    session = load(tmp_path / "m.edgelstm").session()
    x = given[0]["X"].reshape(-1, 3)
    found = np.array(session.run(x)).reshape(len(x), -1)
    wanted = Replay(graph).run(given[0])["Z"].reshape(len(x), -1)
    assert np.abs(found - wanted).max() <= (0.15 if scheme == "w4" else 0.02)
    record = artifact.manifest["quantization"]
    assert {layer["scheme"] for layer in record["layers"]} == {scheme}
    assert all(layer["output_sqnr_db"] > 15 for layer in record["layers"])
    assert all(layer["bytes_after"] < layer["bytes_before"] for layer in record["layers"])
    assert record["outputs"]["Z"]["sqnr_db"] > 15
    check = artifact.manifest["check"]
    assert check["done"]
    assert check["against"] == "quantized step graph"
    assert check["tolerance"] == 0.0 if scheme == "int8-full" else check["tolerance"] > 0
    assert check["distance"]["Z"]["sqnr_db"] > 10


def test_nothing_asked_for() -> None:
    """Without quantize the manifest has no record."""
    artifact = compile_model(lstm_model(steps=None), target="reference")
    assert "quantization" not in artifact.manifest


def test_finished_calibration() -> None:
    """A calibration made before gives the same artifact as its recordings."""
    graph = step_graph(MODEL)
    given = recordings(graph)
    artifacts = [
        compile_model(MODEL, target="reference", quantize="int8-full", calibration=calibration)
        for calibration in (given, calibrate(graph, given))
    ]
    weights = [bytes(artifact.container.section("weights")) for artifact in artifacts]
    assert weights[0] == weights[1]


def test_calibration_of_another_model() -> None:
    """A calibration that names another model is refused."""
    graph = step_graph(MODEL)
    calibration = calibrate(graph, recordings(graph), model="0" * 64)
    with pytest.raises(CapabilityError, match="another model"):
        compile_model(MODEL, target="reference", quantize="int8", calibration=calibration)


def test_unknown_scheme() -> None:
    """The message lists the schemes."""
    with pytest.raises(CapabilityError, match="int8-full"):
        compile_model(MODEL, target="reference", quantize="int7")


@pytest.mark.parametrize("bound", [0.3, 0.02, 0.001])
def test_auto_keeps_its_bound(bound: float) -> None:
    """The error on the recordings is below the bound; every trial is recorded."""
    given = recordings(step_graph(MODEL), frames=100)
    artifact = compile_model(
        MODEL, target="reference", quantize="auto", calibration=given, max_error=bound
    )
    record = artifact.manifest["quantization"]
    assert record["outputs"]["Z"]["max_error"] <= bound * 1.001
    taken = [trial for trial in record["search"] if trial["taken"]]
    assert taken[-1]["error"] <= bound
    sizes = [trial["bytes"] for trial in taken]
    assert sizes == sorted(sizes)


def test_auto_needs_recordings_and_a_bound() -> None:
    """Without them the message says what is missing."""
    graph = step_graph(MODEL)
    given = recordings(graph)
    with pytest.raises(CapabilityError, match="recordings"):
        compile_model(
            MODEL,
            target="reference",
            quantize="auto",
            calibration=calibrate(graph, given),
            max_error=0.1,
        )
    with pytest.raises(CapabilityError, match="bound"):
        compile_model(MODEL, target="reference", quantize="auto", calibration=given)


def test_integers_outside_tell_the_same_errors() -> None:
    """With integer inputs and outputs too, a model says how far it is from float32."""
    given = recordings(step_graph(MODEL))
    records = [
        compile_model(
            MODEL,
            target="reference",
            quantize="int8-full",
            calibration=given,
            quantize_options=QuantizeOptions(integer_io=integer_io),
        ).manifest["quantization"]
        for integer_io in (False, True)
    ]
    assert records[0]["outputs"]["Z"]["sqnr_db"] > 15
    assert records[1]["outputs"] == records[0]["outputs"]
    assert records[1]["layers"] == records[0]["layers"]


@pytest.mark.parametrize("scheme", ["w4", "int8", "int8-full"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_layer_of_any_cell_is_kept(kind: str, scheme: str) -> None:
    """`keep`: the layer computes in float32 with its own weights, its neighbours as asked."""
    graph = step_graph(stacked_model(ops=("LSTM", kind, "GRU"), steps=None, hidden=5))
    layers = {node.name: node for node in graph.nodes if is_layer(node)}
    kept = list(layers)[1]
    assert layers[kept].op.kind == kind
    request = QuantizeRequest(scheme, recordings(graph, frames=60), keep=(kept,), force=True)
    result = quantize_model(graph, request)
    found = {layer["name"]: layer["scheme"] for layer in result.record["layers"]}
    assert found == {name: scheme for name in layers if name != kept}
    (node,) = [node for node in result.graph.nodes if node.name == kept]
    data, given = constant_data(result.graph), constant_data(graph)
    for old, new in zip(layers[kept].inputs[1:4], node.inputs[1:4], strict=True):
        assert old is not None
        assert new is not None
        assert np.array_equal(data[new], given[old])
    assert node.op == layers[kept].op
