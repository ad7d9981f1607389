"""Files of PyTorch and Keras: exported in a process of their own, compared, or refused by name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper

from edgelstm import load
from edgelstm.cli import cli
from edgelstm.errors import ModelError
from edgelstm_compiler.doors.door import _said, compare, door_of, export_model
from edgelstm_compiler.onnx_import import read_model
from edgelstm_compiler.onnx_import.output_names import with_output_names
from edgelstm_compiler.selfcheck import Oracle
from tests.exporters.exported import python_with
from tests.oracle import run_onnxruntime
from tests.unit.onnx_import.loop_models import counted_loop, model, scan
from tests.unit.onnx_import.one_node import graph_model, normal

TORCH = os.environ.get("EDGELSTM_TORCH_PYTHON", sys.executable)
"""A Python that has PyTorch, where this one has none."""

MAKE_LSTM = """
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 8, batch_first=True)
        self.head = torch.nn.Linear(8, 2)
    def forward(self, x):
        return self.head(self.lstm(x)[0])
torch.manual_seed(0)
free = ({1: torch.export.Dim.AUTO},)
program = torch.export.export(Net().eval(), (torch.zeros(1, 6, 3),), dynamic_shapes=free)
torch.export.save(program, sys.argv[1])
"""


def test_doors_are_told_by_their_ending(tmp_path: Path) -> None:
    """ONNX needs none; a file that is not there has none."""
    for name, framework in (("m.pt2", "PyTorch"), ("m.keras", "Keras"), ("m.h5", "Keras")):
        path = tmp_path / name
        path.write_bytes(b"x")
        door = door_of(path)
        assert door is not None
        assert door.framework == framework
    assert door_of(tmp_path / "no.pt2") is None
    assert door_of(tmp_path / "m.onnx") is None


@pytest.mark.parametrize(
    ("ending", "package"), [(".pt2", "torch"), (".keras", "keras"), (".h5", "keras")]
)
def test_a_missing_framework_is_named(tmp_path: Path, ending: str, package: str) -> None:
    """With what to install, and how to name another Python."""
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    path = tmp_path / f"gait{ending}"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"'{package}'.*pip install {package}.*--python"):
        export_model(path, tmp_path / "gait.onnx")
    assert not (tmp_path / "gait.onnx").exists()


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    """One clear error."""
    path = tmp_path / "gait.pt2"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot run /no/python"):
        export_model(path, tmp_path / "gait.onnx", "/no/python")


def test_what_fits_passes() -> None:
    """The same numbers at two lengths."""
    made = counted_loop("T")
    probes = {}
    for trial, frames in enumerate((5, 8)):
        x = normal(frames, 2, 3, seed=trial)
        found = run_onnxruntime(made, {"X": x})
        probes[f"in{trial}_0"] = x
        probes |= {f"out{trial}_{k}": y for k, y in enumerate(found.values())}
    compare(read_model(made), probes, "PyTorch")
    probes["out1_0"] = probes["out1_0"] + 0.01
    with pytest.raises(ModelError, match=r"something else.*'Y'.*differs by 0\.01"):
        compare(read_model(made), probes, "PyTorch")


def test_a_length_that_only_looks_free() -> None:
    """One step exported, and a free axis declared: it shows at the second length."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["f"], axis=1),
        helper.make_node("Tanh", ["f"], ["y"]),
    ]
    made = graph_model(nodes, {"x": (1, (1, "T", 3))}, ["y"], {"first": np.asarray(0)})
    probes = {}
    for trial, frames in enumerate((1, 4)):
        x = normal(1, frames, 3, seed=trial)
        probes |= {f"in{trial}_0": x, f"out{trial}_0": np.tanh(x[:, -1])}
    with pytest.raises(ModelError, match="something else"):
        compare(read_model(made), probes, "Keras")


def test_fixed_lengths_are_compared_at_their_own() -> None:
    """Of a model with fixed extents nothing is promised at others."""
    made = model([scan()], frames=5)
    x = normal(5, 2, 3)
    found = run_onnxruntime(made, {"X": x})
    probes = {"in0_0": x, "in1_0": normal(8, 2, 3), "out1_0": np.zeros(1), "out1_1": np.zeros(1)}
    probes |= {f"out0_{k}": y for k, y in enumerate(found.values())}
    compare(read_model(made), probes, "Keras")


def test_pytorch_program(tmp_path: Path) -> None:
    """An LSTM with a free number of frames goes from .pt2 to ONNX."""
    script = "import torch, onnxscript"
    if subprocess.run([TORCH, "-c", script], capture_output=True, check=False).returncode:
        pytest.skip("torch and onnxscript are not installed: EDGELSTM_TORCH_PYTHON names a Python")
    source = tmp_path / "gait.pt2"
    subprocess.run([TORCH, "-c", MAKE_LSTM, str(source)], check=True, capture_output=True)
    made = export_model(source, tmp_path / "gait.onnx", TORCH)
    assert any(node.op_type == "LSTM" for node in made.body.graph.node)
    assert (tmp_path / "gait.onnx").is_file()


MAKE_KERAS = """
import sys, keras
keras.utils.set_random_seed(0)
layers = keras.layers
cells = layers.LSTM(8, return_sequences=True, stateful="stateful" in sys.argv[2:], name="memory")
frames = dict(batch_shape=(1, 5, 3)) if "stateful" in sys.argv[2:] else dict(shape=(None, 3))
model = keras.Sequential([
    keras.Input(**frames, name="imu"),
    layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0]),
    cells,
    layers.Dense(2, activation="gelu", name="phase"),
])
if "two" in sys.argv:
    x = keras.Input((None, 3), name="imu")
    speed = layers.LSTM(4, return_sequences=True)(x)
    model = keras.Model(x, {"speed": speed, "phase": layers.Dense(2)(speed)})
model.save(sys.argv[1])
"""


def keras_model(path: Path, python: str, *options: str, backend: str) -> Path:
    """A model of normalization, LSTM and GELU, saved by Keras."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-c", MAKE_KERAS, str(path), *options]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_keras_model(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`edgelstm compile gait.keras --python PATH`: the artifact, and the ONNX file beside it."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "tensorflow", "tf2onnx")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    source = keras_model(tmp_path / f"gait{ending}", python, backend="tensorflow")
    artifact = tmp_path / "gait.edgelstm"
    command = ["compile", str(source), "--python", python, "--target", "reference"]
    result = CliRunner().invoke(cli, [*command, "-o", str(artifact)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"exported {source} to {tmp_path / 'gait.onnx'}" in result.output
    exported = read_model(tmp_path / "gait.onnx")
    assert [item.name for item in exported.inputs] == ["imu"]
    assert exported.outputs == ("phase",)
    session = load(artifact).session()
    x = normal(11, 3) + 1
    wanted = Oracle(exported).run({"imu": x[None]}).outputs[exported.outputs[0]]
    np.testing.assert_allclose(session.run(x)[:, 0], wanted[0], 1e-5, 1e-5)


@pytest.mark.slow
def test_outputs_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of outputs keeps its keys."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "tensorflow", "tf2onnx")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    source = keras_model(tmp_path / "two.keras", python, "two", backend="tensorflow")
    assert export_model(source, tmp_path / "two.onnx", python).outputs == ("phase", "speed")


@pytest.mark.slow
def test_what_keras_exports_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its torch backend writes one step of a free number of frames; states of one moment."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "torch", "onnxscript")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    source = keras_model(tmp_path / "gait.keras", python, backend="torch")
    with pytest.raises(ModelError, match=r"differs by|does not run at the shapes"):
        export_model(source, tmp_path / "gait.onnx", python)
    source = keras_model(tmp_path / "held.keras", python, "stateful", backend="torch")
    with pytest.raises(ModelError, match=r"layer 'memory' is stateful.*stateful=False"):
        export_model(source, tmp_path / "held.onnx", python)
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.slow
def test_what_keras_says_is_told(tmp_path: Path) -> None:
    """A file that is none."""
    python = python_with("EDGELSTM_KERAS_PYTHON", "keras", "tensorflow", "tf2onnx")
    source = tmp_path / "gait.keras"
    source.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"Keras cannot export .*Error: .*gait\.keras"):
        export_model(source, tmp_path / "gait.onnx", python)


def test_names_of_outputs() -> None:
    """Those of the framework, once each; what is inside keeps its own."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["phase"]),
        helper.make_node("Neg", ["phase"], ["Identity:0"]),
        helper.make_node("Abs", ["phase"], ["Identity_1:0"]),
    ]
    made = graph_model(nodes, {"x": normal(2)}, ["Identity:0", "Identity_1:0"])
    named = with_output_names(made, ["phase", "size"])
    assert [item.name for item in named.graph.output] == ["phase.2", "size"]
    wanted = run_onnxruntime(made, {"x": normal(2)})
    found = run_onnxruntime(named, {"x": normal(2)})
    assert all(map(np.array_equal, found.values(), wanted.values()))
    assert [item.name for item in with_output_names(made, []).graph.output] == list(wanted)


def test_the_error_of_a_traceback_is_told() -> None:
    """Its last error with what stands behind it, not the last line; no colours."""
    said = (
        "Traceback (most recent call last):\n  File 'x'\nValueError: first\n\nDuring it:\n"
        "keras.errors.GraphError: LSTM failed\n\n\x1b[1mbecause\x1b[0m of this\n"
    )
    assert _said(said) == "keras.errors.GraphError: LSTM failed because of this"
    assert _said("only\na line") == "a line"
    assert _said("") == "no message"
