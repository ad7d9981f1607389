"""Quantization as users call it: calibrate, compile --quantize, verify, report, debug, schemes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm_compiler.quant.support import SUPPORT
from edgelstm_compiler.quant_report.trials import TRIALS
from tests.models import lstm_model, rnn_model, stacked_model
from tests.unit.runtime.command_line import invoke

REFERENCE = ("--target", "reference")
SCHEMES = ("fp16", "w8", "w4", "int8", "int8-full")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An LSTM and a GRU that classify every frame."""
    path = tmp_path / "gait.onnx"
    onnx.save(stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence", hidden=12), path)
    return path


@pytest.fixture
def walks(tmp_path: Path) -> list[Path]:
    """Three recordings of an IMU with three channels: two to calibrate with, one held out."""
    return [_walk(tmp_path / f"walk_{seed}.csv", seed) for seed in range(3)]


def _walk(path: Path, seed: int, frames: int = 260) -> Path:
    noise = np.random.default_rng(seed).standard_normal((frames, 3))
    rows = np.sin(0.3 * np.cumsum(noise, axis=0)) + 0.2 * noise
    text = "".join(f"{i * 10},{a},{b},{c}\n" for i, (a, b, c) in enumerate(rows.round(5)))
    path.write_text(f"time_ms,x,y,z\n{text}", encoding="utf-8")
    return path


def _calibrated(walks: list[Path]) -> list[Any]:
    words: list[Any] = ["--columns", "x,y,z"]
    for walk in walks[:2]:
        words += ["--calibrate", walk]
    return words


def _compile(model: Path, scheme: str, walks: list[Path], *words: object) -> Path:
    artifact = model.with_suffix(f".{scheme}.edgelstm")
    made = invoke(
        "compile",
        model,
        "-o",
        artifact,
        *REFERENCE,
        "--quantize",
        scheme,
        *_calibrated(walks),
        *words,
    )
    assert made.exit_code == 0, made.stderr
    return artifact


@pytest.mark.parametrize("scheme", SCHEMES)
def test_compile_and_verify(scheme: str, model: Path, walks: list[Path]) -> None:
    """Every scheme: the summary tells layers and bytes, verify passes and tells the distance."""
    artifact = model.with_suffix(".edgelstm")
    words = ("-o", artifact, *REFERENCE, "--quantize", scheme, *_calibrated(walks))
    made = invoke("compile", model, *words, "--json")
    assert made.exit_code == 0, made.stderr
    summary = json.loads(made.stdout)
    assert [layer["scheme"] for layer in summary["layers"]] == [scheme] * 3
    assert all(layer["bytes_after"] < layer["bytes_before"] for layer in summary["layers"])
    assert summary["quantization"]["outputs"]["Z"]["sqnr_db"] > 15
    text = invoke("compile", model, *words).stdout
    assert f"quantized {scheme}" in text
    assert " dB" in text
    words = ("--model", model, "--input", walks[2], "--columns", "x,y,z")
    checked = invoke("verify", artifact, *words, "--json")
    assert checked.exit_code == 0, checked.stderr
    report = json.loads(checked.stdout)
    (output,) = report["outputs"]
    assert output["limit"] == 0 if scheme == "int8-full" else output["limit"] > 0
    assert report["steps"] == 260
    assert report["distance_to_fp32"]["Z"]["max_error"] > 0
    told = invoke("verify", artifact, *words, "--frames", "50").stdout
    assert "told, not judged" in told
    assert "PASS" in told


def test_a_calibration_file_is_as_good_as_its_recordings(
    model: Path, walks: list[Path], tmp_path: Path
) -> None:
    """`calibrate` writes JSON; compiling with it gives the same weights."""
    file = tmp_path / "gait.json"
    words = [word if word != "--calibrate" else "--input" for word in _calibrated(walks)]
    made = invoke("calibrate", model, *words, "-o", file, "--json")
    assert made.exit_code == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["frames"] == 520
    assert report["recordings"] == 2
    from_recordings = edgelstm.load(_compile(model, "int8-full", walks))
    path = tmp_path / "other.edgelstm"
    words = ["--quantize", "int8-full", "--calibration", file, *REFERENCE]
    assert invoke("compile", model, "-o", path, *words).exit_code == 0
    from_file = edgelstm.load(path)
    for section in ("weights", "quantization/calibration"):
        left, right = (a.container.section(section) for a in (from_recordings, from_file))
        assert bytes(left) == bytes(right)
    assert report["sha256"] == from_file.manifest["quantization"]["calibration"]["sha256"]
    assert invoke("verify", path, "--model", model).exit_code == 0


def test_calibration_warns(model: Path, tmp_path: Path) -> None:
    """What the recordings do not exercise is said, by calibrate and by compile."""
    still = tmp_path / "still.csv"
    rows = "".join(f"{i * 10},{np.sin(i / 9):.4f},0.5,0.5\n" for i in range(60))
    still.write_text(f"time_ms,x,y,z\n{rows}", encoding="utf-8")
    words = ("--columns", "x,y,z")
    made = invoke("calibrate", model, "--input", still, *words, "-o", tmp_path / "c.json")
    assert made.exit_code == 0, made.stderr
    assert "only 60 frames" in made.stderr
    assert "channels 1, 2 never change" in made.stderr
    words = ("--quantize", "int8", "--calibrate", still, *words, *REFERENCE)
    made = invoke("compile", model, "-o", tmp_path / "x.edgelstm", *words)
    assert "warning: only 60 frames" in made.stderr


@pytest.mark.parametrize("ranges", ["min-max", "percentile"])
def test_a_glitch_is_named_with_its_line(ranges: str, model: Path, walks: list[Path]) -> None:
    """Both commands say in which file and line a value stands alone far out."""
    lines = walks[1].read_text(encoding="utf-8").splitlines()
    lines[100] = "990,0.1,-1e5,0.2"
    walks[1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    place = f"{walks[1]}, line 101 (frame 100)"
    words = [*REFERENCE, "--quantize", "int8", *_calibrated(walks), "--ranges", ranges]
    made = invoke("compile", model, "-o", model.with_suffix(".edgelstm"), *words)
    inputs = [word for walk in walks for word in ("--input", walk)]
    file = model.with_suffix(".json")
    calibrated = invoke("calibrate", model, "--columns", "x,y,z", *inputs, "-o", file)
    for result in (made, calibrated):
        assert place in result.stderr
        assert "channel 1" in result.stderr
    assert place in file.read_text(encoding="utf-8")


def test_a_layer_is_kept_in_float32(model: Path, walks: list[Path]) -> None:
    """Beside one scheme for all others; an unknown layer is refused with the names."""
    words = [*REFERENCE, "--quantize", "int8-full", *_calibrated(walks)]
    artifact = model.with_suffix(".edgelstm")
    made = invoke("compile", model, "-o", artifact, *words, "--keep", "layer_2=float", "--json")
    assert made.exit_code == 0, made.stderr
    schemes = {row["name"]: row["scheme"] for row in json.loads(made.stdout)["layers"]}
    assert schemes["layer_1"] == "int8-full"
    assert schemes["layer_2"] == "fp32"
    assert invoke("verify", artifact, "--model", model).exit_code == 0
    unknown = invoke("compile", model, "-o", artifact, *words, "--keep", "layer_9")
    assert unknown.exit_code == 4
    assert "'layer_1', 'layer_2'" in unknown.stderr
    assert invoke("compile", model, *words, "--keep", "layer_2=w4").exit_code == 2


def test_a_model_is_measured_and_refused(model: Path, walks: list[Path], tmp_path: Path) -> None:
    """Figures on held-out recordings are told; what is useless has exit code 3 unless forced."""
    words = [*REFERENCE, "--columns", "x,y,z", "--quantize", "int8"]
    artifact = model.with_suffix(".edgelstm")
    given = ["-o", artifact, "--calibrate", walks[0], "--holdout", walks[2]]
    told = invoke("compile", model, *words, *given).stdout
    assert "measured on recordings held out: 260 frames" in told
    assert "same decision on" in told
    assert "weights" not in told.split("quantized", 1)[1]
    onnx.save(lstm_model(steps=None, hidden=12, gain=3.0), model)
    ruined = tmp_path / "ruined.csv"
    lines = walks[0].read_text(encoding="utf-8").splitlines()
    lines[9] = "90,1e9,1e9,1e9"
    ruined.write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ["-o", artifact, "--calibrate", ruined, "--holdout", walks[2]]
    refused = invoke("compile", model, *words, *given)
    assert refused.exit_code == 3
    assert "--force" in refused.stderr
    forced = invoke("compile", model, *words, *given, "--force")
    assert forced.exit_code == 0
    assert "dB" in forced.stderr


def test_auto_shows_its_search(model: Path, walks: list[Path]) -> None:
    """Auto keeps its bound and lists the trials that it took; layers in fp32 are listed too."""
    artifact = model.with_suffix(".edgelstm")
    words = ("-o", artifact, *REFERENCE, "--quantize", "auto", *_calibrated(walks))
    made = invoke("compile", model, *words, "--max-error", "0.01")
    assert made.exit_code == 0, made.stderr
    assert re.search(r"search: \d+ trials, bound 0.01", made.stdout)
    assert "layer_1=w4" in made.stdout
    record = edgelstm.load(artifact).manifest["quantization"]
    assert record["outputs"]["Z"]["max_error"] <= 0.01
    assert invoke("verify", artifact, "--model", model).exit_code == 0


def test_schemes_by_layer(model: Path, walks: list[Path]) -> None:
    """LAYER=SCHEME, several times; a layer that is not named stays in float32."""
    artifact = model.with_suffix(".edgelstm")
    words = ("--quantize", "layer_1=int8", "--quantize", "layer_2=w8", *_calibrated(walks))
    made = invoke("compile", model, "-o", artifact, *REFERENCE, *words, "--json")
    assert made.exit_code == 0, made.stderr
    layers = {layer["name"]: layer["scheme"] for layer in json.loads(made.stdout)["layers"]}
    assert layers == {"layer_1": "int8", "layer_2": "w8", "head_bias": "fp32"}
    assert invoke("verify", artifact, "--model", model).exit_code == 0
    unknown = invoke("compile", model, *REFERENCE, "--quantize", "layer_9=w8")
    assert unknown.exit_code == 4
    assert "'layer_1'" in unknown.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--quantize", "auto"),
        ("--quantize", "w8", "--max-error", "0.1"),
        ("--calibrate", "walk.csv"),
        ("--quantize", "w8", "--quantize", "w4"),
        ("--quantize", "int8", "--calibrate", "a.csv", "--calibration", "c.json"),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], model: Path) -> None:
    """Exit code 2."""
    assert invoke("compile", model, *REFERENCE, *words).exit_code == 2


def test_messages_of_wrong_use(model: Path, walks: list[Path], tmp_path: Path) -> None:
    """A missing calibration, an unknown scheme, a file that is none: what to do is said."""
    result = invoke("compile", model, *REFERENCE, "--quantize", "int8")
    assert result.exit_code == 4
    assert "--calibrate" in result.stderr
    result = invoke("compile", model, *REFERENCE, "--quantize", "int7")
    assert result.exit_code == 4
    assert "int8-full" in result.stderr
    result = invoke("compile", model, *REFERENCE, "--quantize", "int8", "--calibration", walks[0])
    assert result.exit_code == 4
    assert "cannot be read as a calibration" in result.stderr
    missing = tmp_path / "nowhere.csv"
    result = invoke("compile", model, *REFERENCE, "--quantize", "int8", "--calibrate", missing)
    assert result.exit_code == 6


def test_call_mode_takes_windows(tmp_path: Path) -> None:
    """NPZ windows calibrate and verify a model that cannot stream."""
    path, artifact, file = (tmp_path / name for name in ("m.onnx", "m.edgelstm", "w.npz"))
    onnx.save(stacked_model(direction="bidirectional", steps=7, head="last_step"), path)
    windows = np.random.default_rng(0).standard_normal((12, 7, 1, 3)).astype(np.float32)
    np.savez(file, X=windows)
    words = ("--mode", "call", *REFERENCE, "--quantize", "int8-full", "--calibrate", file)
    made = invoke("compile", path, "-o", artifact, *words, "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["quantization"]["calibration"]["frames"] == 12
    checked = invoke("verify", artifact, "--model", path, "--input", file, "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["steps"] == 12
    words = ("--model", path, "--input", file, "--json")
    report = json.loads(invoke("report", artifact, *words).stdout)
    assert report["drift"] is None
    assert report["errors"]["held-out"]
    found = json.loads(invoke("debug", artifact, *words).stdout)
    assert any(tensor["kind"] == "gate" for tensor in found["tensors"])
    np.savez(file, X=windows[:, :5])
    refused = invoke("verify", artifact, "--model", path, "--input", file)
    assert refused.exit_code == 6
    assert "expected [7, 1, 3]" in refused.stderr


def test_integer_io(model: Path, walks: list[Path]) -> None:
    """Without floating point at all: verify and report convert what recordings hold."""
    artifact = _compile(model, "int8-full", walks, "--integer-io")
    assert edgelstm.load(artifact).signature.inputs[0].dtype.value == "i16"
    words = ("--model", model, "--input", walks[2], "--columns", "x,y,z")
    checked = json.loads(invoke("verify", artifact, *words, "--json").stdout)
    assert checked["passed"]
    assert checked["distance_to_fp32"]["Z"]["sqnr_db"] > 20
    made = invoke("report", artifact, *words, "--json", "--drift-steps", "500")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["errors"]["held-out"]["Z"]["sqnr_db"] > 20


def _damaged(artifact: Path, place: int) -> Path:
    """The artifact with other weights, checksums put right."""
    container = edgelstm.load(artifact).container
    sections = {name: bytes(data) for name, data in container.sections.items()}
    weights = bytearray(sections["weights"])
    weights[place] ^= 0x40
    path = artifact.with_suffix(".damaged.edgelstm")
    type(container)(container.manifest, {**sections, "weights": bytes(weights)}).write(path)
    return path


def test_verify_and_debug_notice_a_changed_weight(model: Path, walks: list[Path]) -> None:
    """One other weight in int8-full: exit code 3, where and how much."""
    artifact = _damaged(_compile(model, "int8-full", walks), 5)
    words = ("--model", model, "--input", walks[0], "--columns", "x,y,z")
    checked = invoke("verify", artifact, *words)
    assert checked.exit_code == 3
    assert "FAIL from step" in checked.stdout
    found = invoke("debug", artifact, *words)
    assert found.exit_code == 3
    assert "does not compute what the scheme defines" in found.stderr


@pytest.mark.parametrize("scheme", SCHEMES)
def test_debug_names_the_first_tensor(scheme: str, model: Path, walks: list[Path]) -> None:
    """Every tensor and gate in program order; with a hard budget the first is named."""
    artifact = _compile(model, scheme, walks)
    words = ("--model", model, "--input", walks[2], "--columns", "x,y,z")
    result = invoke("debug", artifact, *words, "--budget", "150", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    tensors = {tensor["name"]: tensor for tensor in report["tensors"]}
    assert list(tensors)[:4] == [
        f"layer_1: {gate}" for gate in ("input gate", "output gate", "forget gate", "candidate")
    ]
    assert "layer_2: reset gate" in tensors
    least = 12 if scheme == "w4" else 25
    assert all(t["sqnr_db"] is None or t["sqnr_db"] > least for t in tensors.values())
    assert report["first_beyond"] == "layer_1: input gate"
    assert set(report["alone_db"]) == {"layer_1", "layer_2", "head_bias"}
    assert report["code_passed"]
    easy = invoke("debug", artifact, *words, "--budget", "3")
    assert "no tensor is beyond its share" in easy.stdout


def test_debug_of_float32(model: Path, tmp_path: Path) -> None:
    """A float32 artifact is held against float64; changed code is blamed."""
    artifact = tmp_path / "gait.edgelstm"
    assert invoke("compile", model, "-o", artifact, *REFERENCE).exit_code == 0
    result = invoke("debug", artifact, "--model", model, "--frames", "100", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["against"] == "float64 evaluation"
    assert report["first_beyond"] is None
    assert min(tensor["sqnr_db"] for tensor in report["tensors"]) > 110
    assert any(tensor["kind"] == "gate" for tensor in report["tensors"])


def test_report_page(model: Path, walks: list[Path], tmp_path: Path) -> None:
    """One file with everything inside; the numbers are in the JSON too."""
    artifact, page = _compile(model, "int8-full", walks), tmp_path / "report.html"
    words = ("--model", model, "--input", walks[2], "--columns", "x,y,z", "--drift-steps", "3000")
    told = invoke("report", artifact, *words, "--calibrate", walks[0], "-o", page)
    assert told.exit_code == 0, told.stderr
    assert "same decision" in told.stdout
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/svg+xml;base64,") == 5
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html
    for words_inside in ("layer_2", "Drift", "no bounds, integer gates have", "gates"):
        assert words_inside in html
    report = json.loads(invoke("report", artifact, *words, "--json").stdout)
    assert report["drift"]["steps"] == 3000
    assert len(report["drift"]["rms_error"]) == 100
    assert {"slope_per_100000_steps", "grows", "verdict"} <= set(report["drift"])
    assert set(report["errors"]) == {"calibration (when compiled)", "held-out"}
    error = report["errors"]["held-out"]["Z"]
    assert 0 < error["mean_error"] <= error["rms_error"] <= error["max_error"]
    assert 0.9 <= error["agreement"] <= 1
    for layer in report["layers"]:
        assert layer["output_sqnr_db"] > 20
        assert layer["saturation"]["input"] == 0
    assert report["speed"]["measured"] is None
    assert "NumPy" in report["speed"]["not_measured_because"]


def test_report_without_model_or_matplotlib(
    model: Path, walks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact alone tells what it holds; without matplotlib the page says how to get it."""
    artifact, page = _compile(model, "w8", walks), tmp_path / "report.html"
    monkeypatch.setattr("edgelstm_compiler.commands.report.plots_available", lambda: False)
    told = invoke("report", artifact, "-o", page)
    assert told.exit_code == 0, told.stderr
    assert "which flatter" in told.stdout
    html = page.read_text(encoding="utf-8")
    assert "[report]" in html
    assert "<img" not in html
    assert invoke("report", artifact, "--input", walks[2]).exit_code == 2


def test_report_of_float32(model: Path, tmp_path: Path) -> None:
    """There is nothing to tell; the message says what to do."""
    artifact = tmp_path / "gait.edgelstm"
    invoke("compile", model, "-o", artifact, *REFERENCE)
    result = invoke("report", artifact)
    assert result.exit_code == 5
    assert "--quantize SCHEME" in result.stderr


@pytest.mark.tvm
def test_report_measures_speed(model: Path, walks: list[Path], tmp_path: Path) -> None:
    """Where this machine runs both, the report says plainly whether quantizing pays."""
    artifact, page = tmp_path / "gait.edgelstm", tmp_path / "report.html"
    words = ("-o", artifact, "--cpu", "native", "--quantize", "int8", *_calibrated(walks))
    assert invoke("compile", model, *words).exit_code == 0
    words = ("--model", model, "--seconds", "0.1", "--drift-steps", "2000", "-o", page)
    made = invoke("report", artifact, *words, "--json")
    assert made.exit_code == 0, made.stderr
    speed = json.loads(made.stdout)["speed"]
    assert speed["measured"]["fp32_ns"] > 0
    assert speed["predicted_ratio"] > 0
    pays = speed["measured"]["ratio"] >= 1.05
    assert pays == speed["verdict"].startswith("Quantizing pays")


def test_schemes_table() -> None:
    """Every scheme with every operator; whatever is refused has a reason."""
    report = json.loads(invoke("schemes", "--target", "reference", "--json").stdout)
    table = {(row["scheme"], row["what"]): row for row in report["schemes"]}
    for scheme, operators in SUPPORT.items():
        for operator in operators:
            assert (scheme.value, operator.__name__) in table
    for row in [*report["schemes"], *report["targets"]]:
        assert row["admitted"] or row["reason"], row
    # The reference target compiles what the table admits, and nothing else.
    for row in report["targets"]:
        assert row["admitted"] == table[row["scheme"], row["what"]]["admitted"], row
    assert len(report["targets"]) == len(SUPPORT) * len(TRIALS)
    text = invoke("schemes").stdout
    assert all(scheme in text for scheme in SCHEMES)


def test_refused_operators_have_a_message(tmp_path: Path) -> None:
    """What the table refuses of an operator, compile refuses with the table's reason."""
    path = tmp_path / "rnn.onnx"
    onnx.save(rnn_model(steps=None, activations=("Relu",)), path)
    result = invoke("compile", path, *REFERENCE, "--quantize", "int8-full")
    assert result.exit_code == 3
    assert "no bounds, integer gates have" in result.stderr
