"""`verify` over windows, held inputs and noise, and what it sees behind saturated outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm_compiler import compile_model
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.verification import fixed_length, verify_stream
from tests.models import make_model
from tests.unit.runtime.command_line import invoke
from tests.unit.selfcheck.checked_models import (
    cell_arrays,
    one_layer,
    saturated_classifier,
    with_one_weight_off,
)


def windowed(tmp_path: Path, outputs: tuple[str, ...], steps: int) -> tuple[Path, Path]:
    """A model of fixed length and its artifact."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    names = ("", "Y_h") if outputs == ("Y_h",) else outputs
    model = one_layer("LSTM", features=3, outputs=names, shown=outputs[0], steps=steps)
    onnx.save(model, path)
    made = invoke("compile", path, "-o", artifact, "--mode", "stream", "--target", "reference")
    assert made.exit_code == 0, made.stderr
    return path, artifact


@pytest.mark.parametrize("outputs", [("Y_h",), ("Y",)])
@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("more", [0, 1, 30])
def test_fixed_windows(outputs: tuple[str, ...], steps: int, more: int, tmp_path: Path) -> None:
    """Recordings of one window exactly, of a frame more, of several: all pass."""
    path, artifact = windowed(tmp_path, outputs, steps)
    rows = np.random.default_rng(0).standard_normal((steps + more, 3))
    csv = tmp_path / "walk.csv"
    np.savetxt(csv, rows, delimiter=",", header="a,b,c", comments="")
    result = invoke("verify", artifact, "--model", path, "--input", csv)
    assert result.exit_code == 0, result.stderr + result.stdout
    assert invoke("verify", artifact, "--model", path).exit_code == 0


def test_less_than_a_window(tmp_path: Path) -> None:
    """One clear error that names both numbers."""
    path, artifact = windowed(tmp_path, ("Y_h",), 30)
    csv = tmp_path / "walk.csv"
    np.savetxt(csv, np.ones((29, 3)), delimiter=",", header="a,b,c", comments="")
    result = invoke("verify", artifact, "--model", path, "--input", csv)
    assert result.exit_code == 6
    assert "30 frames, the input has 29" in result.stderr
    assert invoke("verify", artifact, "--model", path, "--frames", "29").exit_code == 6


def test_noise_is_judged_by_float64(tmp_path: Path) -> None:
    """Large weights: 1e-5 is below what float32 resolves; a tolerance of the user's is kept."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(one_layer("GRU", hidden=32, features=16, scale=1.0), path)
    compile_model(path, target="reference", check=False).save(artifact)
    result = invoke("verify", artifact, "--model", path, "--frames", "60")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "float64" in result.stdout
    strict = ("--frames", "60", "--tolerance", "1e-7")
    assert invoke("verify", artifact, "--model", path, *strict).exit_code == 3


def test_a_wrong_weight_of_a_noisy_model_fails(tmp_path: Path) -> None:
    """The noise floor is that of rounding, not of another model."""
    model = one_layer("GRU", hidden=32, features=16, scale=1.0)
    wrong = compile_model(with_one_weight_off(model, "R", 9), target="reference", check=False)
    frames = {"x": np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)}
    assert not verify_stream(wrong, read_model(model), frames).passed


def test_an_input_without_time_is_held() -> None:
    """The model has it once for the whole sequence, so the stream is given it unchanged."""
    arrays = {**cell_arrays("LSTM", 3, 4, 0.5, 1)}
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, 3]),
        helper.make_tensor_value_info("side", TensorProto.FLOAT, [3]),
    ]
    nodes = [
        helper.make_node("Add", ["x", "side"], ["fed"]),
        helper.make_node("LSTM", ["fed", "W", "R", "B"], ["Y"], hidden_size=4),
    ]
    shown = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, 1, 4])]
    model = make_model(nodes, given, shown, arrays)
    artifact = compile_model(model, target="reference")
    rng = np.random.default_rng(0)
    frames = {
        spec.name: rng.standard_normal((20, *spec.shape)).astype(np.float32)
        for spec in artifact.signature.inputs
    }
    assert verify_stream(artifact, read_model(model), frames).passed


def test_free_length_is_no_fixed_length() -> None:
    """A model of free length has no window, whatever the recording's length."""
    free, fixed = (one_layer("LSTM", features=3, steps=steps) for steps in ("T", 30))
    for model, wanted in ((free, None), (fixed, 30)):
        artifact = compile_model(model, target="reference", check=False)
        assert fixed_length(read_model(model), artifact) == wanted


def test_random_input_of_an_unchecked_artifact_lies_in_the_domain(tmp_path: Path) -> None:
    """What --no-check did not find out verify finds; where nothing fits it asks for a file."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    log = [helper.make_node("Log", ["x"], ["fed"])]
    never = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["n"])]
    more = {"one": np.asarray(np.float32(1))}
    never += [helper.make_node("Sub", ["n", "one"], ["d"]), helper.make_node("Log", ["d"], ["fed"])]
    for before, constants, code in ((log, {}, 0), (never, more, 6)):
        onnx.save(one_layer("LSTM", before=before, frames="fed", more=constants), path)
        compile_model(path, target="reference", check=False).save(artifact)
        result = invoke("verify", artifact, "--model", path)
        assert result.exit_code == code, result.stdout + result.stderr
        assert "nan" not in result.stdout


def test_saturated_outputs_hide_no_wrong_weight(tmp_path: Path) -> None:
    """An artifact of other weights fails even where its probabilities are the same."""
    model = saturated_classifier("LSTM", "Softmax", every_frame=True, seed=3)
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(model, path)
    sound = compile_model(path, target="reference")
    sections = {name: bytes(data) for name, data in sound.container.sections.items()}
    weights = np.frombuffer(sections["weights"], np.float32).copy()
    dense = int(np.argmax(np.abs(weights)))
    weights[dense] *= 1.2
    changed = {**sections, "weights": weights.tobytes()}
    type(sound.container)(sound.container.manifest, changed).write(artifact)
    result = invoke("verify", artifact, "--model", path)
    assert result.exit_code == 3
    assert "FAIL" in result.stdout
