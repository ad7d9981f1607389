"""The compiler's commands as users call them: compile, inspect, verify, bench, demo."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgelstm
from edgelstm_compiler.demo import MODEL_PATH, TRIAL_PATH
from tests.models import lstm_model, make_model, stacked_model
from tests.stream.test_c_streams import late_model
from tests.unit.onnx_import.broken_models import CASES
from tests.unit.runtime.command_line import invoke

REFERENCE = ("--target", "reference")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A two-layer classifier of every frame."""
    path = tmp_path / "gait.onnx"
    onnx.save(stacked_model(hidden=8, features=6, steps=None, head="sequence"), path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_broken_models(case: str, tmp_path: Path) -> None:
    """Every broken model: exit code 3, one error, no traceback, no artifact."""
    with np.errstate(all="ignore"):
        made = CASES[case].make(lstm_model(outputs=("Y",)))
    path, output = tmp_path / "model.onnx", tmp_path / "out.edgelstm"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    (tmp_path / "short.bin").write_bytes(bytes(10))
    (tmp_path / "weights.data").write_bytes(bytes(10_000))
    shapes = [
        word
        for name, shape in CASES[case].shapes.items()
        for word in ("--shape", f"{name}={','.join(map(str, shape))}")
    ]
    result = invoke("compile", path, "-o", output, "--mode", "call", *shapes, *REFERENCE)
    assert result.exit_code == 3, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert not output.exists()


def test_usage_errors(model: Path) -> None:
    """Wrong words are answered with exit code 2."""
    for words in (
        ("compile",),
        ("compile", model, "--mode", "sideways"),
        ("compile", model, "--shape", "X"),
        ("compile", model, "--option", "cpu"),
        ("verify", "some.edgelstm"),
        ("bench", "some.edgelstm", "--against", "onnxruntime"),
        ("no-such-command",),
    ):
        assert invoke(*words).exit_code == 2, words


def test_unknown_target_and_option(model: Path, tmp_path: Path) -> None:
    """A target or option that is not there: exit code 4, and what there is."""
    result = invoke("compile", model, "--target", "toaster", "-o", tmp_path / "x.edgelstm")
    assert result.exit_code == 4
    assert "toaster" in result.stderr
    assert "reference" in result.stderr
    result = invoke("compile", model, *REFERENCE, "--option", "speed=high", "-o", tmp_path / "x")
    assert result.exit_code == 4
    assert "speed" in result.stderr


def test_compile_inspect_verify(model: Path, tmp_path: Path) -> None:
    """The three commands agree on one model, as text and as JSON."""
    artifact = tmp_path / "gait.edgelstm"
    made = invoke("compile", model, "-o", artifact, *REFERENCE, "--json", "--rate", "50")
    assert made.exit_code == 0, made.stderr
    summary = json.loads(made.stdout)
    assert summary["check"]["done"]
    assert summary["check"]["max_error"] <= 1e-5
    assert summary["check"]["lengths"] == [9, 23]
    assert edgelstm.load(artifact).signature.rate_hz == 50
    seen = json.loads(invoke("inspect", model, "--json").stdout)
    assert seen["streamable"]
    assert seen["macs"] == summary["macs"]
    assert "streams: yes" in invoke("inspect", model).stdout
    assert json.loads(invoke("inspect", artifact, "--json").stdout)["macs"] == summary["macs"]
    checked = invoke("verify", artifact, "--model", model, "--json")
    assert checked.exit_code == 0, checked.stderr
    report = json.loads(checked.stdout)
    assert report["passed"]
    assert report["steps"] == 1000
    assert "PASS" in invoke("verify", artifact, "--model", model).stdout


def test_verify_notices_a_changed_artifact(model: Path, tmp_path: Path) -> None:
    """An artifact whose weights were changed (checksums put right) FAILS with exit code 3."""
    path = tmp_path / "gait.edgelstm"
    invoke("compile", model, "-o", path, *REFERENCE)
    container = edgelstm.load(path).container
    sections = {name: bytes(data) for name, data in container.sections.items()}
    weights = np.frombuffer(sections["weights"], np.float32).copy()
    weights[3] += 0.25
    changed = type(container)(container.manifest, {**sections, "weights": weights.tobytes()})
    changed.write(path)
    result = invoke("verify", path, "--model", model)
    assert result.exit_code == 3
    assert "FAIL from step" in result.stdout


def test_verify_wants_the_right_model(model: Path, tmp_path: Path) -> None:
    """Another model than the artifact's is refused by its hash."""
    artifact = tmp_path / "gait.edgelstm"
    invoke("compile", model, "-o", artifact, *REFERENCE)
    result = invoke("verify", artifact, "--model", MODEL_PATH)
    assert result.exit_code == 3
    assert "another model" in result.stderr


def test_verify_over_a_recording_with_a_last_step_head(tmp_path: Path) -> None:
    """An any-time output is compared at several lengths, a recording comes from CSV."""
    path, artifact, csv = (tmp_path / name for name in ("m.onnx", "m.edgelstm", "walk.csv"))
    onnx.save(stacked_model(hidden=8, features=3, steps=None, head="last_step"), path)
    rows = np.random.default_rng(0).standard_normal((30, 3))
    text = "".join(f"{i * 10},{a},{b},{c}\n" for i, (a, b, c) in enumerate(rows.round(4)))
    csv.write_text(f"time_ms,x,y,z\n{text}", encoding="utf-8")
    assert invoke("compile", path, "-o", artifact, *REFERENCE).exit_code == 0
    result = invoke(
        "verify", artifact, "--model", path, "--input", csv, "--columns", "x,y,z", "--json"
    )
    assert result.exit_code == 0, result.stderr
    (output,) = json.loads(result.stdout)["outputs"]
    assert output["compared"] == 12 * 5


def test_call_mode(tmp_path: Path) -> None:
    """A bidirectional model compiles in call mode only; the refusal explains both ways."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(stacked_model(direction="bidirectional", steps=7, head="last_step"), path)
    refused = invoke("compile", path, "-o", artifact, *REFERENCE)
    assert refused.exit_code == 3
    assert "layer_1" in refused.stderr
    assert "--mode call" in refused.stderr
    assert invoke("compile", path, "-o", artifact, "--mode", "call", *REFERENCE).exit_code == 0
    assert invoke("verify", artifact, "--model", path).exit_code == 0
    report = json.loads(invoke("inspect", path, "--json").stdout)
    assert not report["streamable"]
    assert len(report["not_streamable"]) >= 1
    assert report["layers"]


def test_no_check_is_on_record(model: Path, tmp_path: Path) -> None:
    """--no-check writes the artifact, and the manifest says that nothing was compared."""
    artifact = tmp_path / "gait.edgelstm"
    made = invoke("compile", model, "-o", artifact, *REFERENCE, "--no-check")
    assert made.exit_code == 0
    assert "not compared" in made.stdout
    assert edgelstm.load(artifact).manifest["check"]["done"] is False


def test_dump_parses_back(model: Path, tmp_path: Path) -> None:
    """--dump writes the text of every stage; graphs and programs are read back from it."""
    from edgelstm_compiler.ir.program_text import parse_program, print_program
    from edgelstm_compiler.ir.text import parse_graph, print_graph

    folder = tmp_path / "stages"
    invoke("compile", model, "-o", tmp_path / "x.edgelstm", *REFERENCE, "--dump", folder)
    texts = sorted(folder.glob("*.txt"))
    names = [path.stem[3:] for path in texts]
    assert names[0] == "imported"
    assert {"steps", "program"} <= set(names)
    stages = [path for path in texts if path.with_suffix(".npz").exists()]
    assert len(stages) >= 6
    for path in stages:
        text = path.read_text(encoding="utf-8")
        with np.load(path.with_suffix(".npz")) as file:
            data = dict(file.items())
        if path.stem.endswith("_program"):
            assert print_program(parse_program(text, data)) == text
        else:
            assert print_graph(parse_graph(text, data)) == text


def baked_model() -> onnx.ModelProto:
    """Says that time is free, but a Reshape has the 5 frames of its tracing baked in."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "W": rng.standard_normal((1, 16, 3)).astype(np.float32),
        "R": rng.standard_normal((1, 16, 4)).astype(np.float32),
        "shape": np.array([5, 4], np.int64),
    }
    nodes = [
        helper.make_node("LSTM", ["X", "W", "R"], ["Y"], name="cell", hidden_size=4),
        helper.make_node("Reshape", ["Y", "shape"], ["Z"], name="flatten"),
    ]
    info = helper.make_tensor_value_info
    x = info("X", TensorProto.FLOAT, ["T", 1, 3])
    z = info("Z", TensorProto.FLOAT, [None, 4])
    assert numpy_helper.from_array(arrays["W"]) is not None
    return make_model(nodes, [x], [z], arrays)


def test_a_baked_in_length_is_reported(tmp_path: Path) -> None:
    """A model that works at one length only is refused with the node and what to do."""
    path = tmp_path / "baked.onnx"
    onnx.save(baked_model(), path)
    result = invoke("compile", path, "-o", tmp_path / "x.edgelstm", *REFERENCE)
    assert result.exit_code == 3
    assert "flatten" in result.stderr
    told = invoke("compile", path, "--shape", "X=5,1,3", "-o", tmp_path / "x.edgelstm", *REFERENCE)
    assert told.exit_code == 0, told.stderr


Damage = Callable[[pytest.MonkeyPatch], None]


def _wrong_packing(patch: pytest.MonkeyPatch) -> None:
    import edgelstm_compiler.lowering.select as select

    right = select.pack_layer

    def doubled(form: Any, phases: Any, rows: Any) -> Any:
        packed = right(form, phases, rows)
        is_dense = rows.h is None
        return (2 * packed.view(np.float32)).view(np.uint8) if is_dense else packed

    patch.setattr(select, "pack_layer", doubled)


def _wrong_streaming(patch: pytest.MonkeyPatch) -> None:
    import edgelstm_compiler.streaming.recurrent_rule as rule
    from edgelstm_compiler.ir.types import Constant

    def ones(value: object, tensor: Any, builder: object) -> Any:
        return Constant.of("", np.ones(tensor.shape, np.float32)).data

    patch.setattr(rule, "_initial", ones)


@pytest.mark.tvm
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_wrong_packing, ("stage program", "Gemm")),
        (_wrong_streaming, ("streaming conversion",)),
    ],
)
def test_self_check_refuses_what_is_wrong(
    damage: Damage, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours never reaches a file: the check names the first stage and node."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(stacked_model(hidden=8, features=6, steps=None, head="last_step"), path)
    damage(monkeypatch)
    result = invoke("compile", path, "-o", artifact)
    assert result.exit_code == 3, result.stderr
    assert not artifact.exists()
    for word in words:
        assert word in result.stderr


@pytest.mark.tvm
def test_demo() -> None:
    """The demo verifies its model and reads the phases of the trial in order."""
    result = invoke("demo", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["verification"]["passed"]
    assert [phase for phase, _, _ in report["timeline"]] == [
        "SEATED",
        "STANDING_UP",
        "WALKING",
        "TURNING",
        "WALKING",
        "TURNING",
        "SITTING_DOWN",
        "SEATED",
    ]
    assert "SITTING_DOWN" in invoke("demo").stdout


@pytest.mark.tvm
def test_bench_tells_the_worst_phase(tmp_path: Path) -> None:
    """Of a model with an output every other frame; also where a step takes chunks of them."""
    onnx.save(late_model(), tmp_path / "late.onnx")
    for words in ((), ("--chunk", "4")):
        artifact = tmp_path / "late.edgelstm"
        given = ("compile", tmp_path / "late.onnx", "-o", artifact, "--target", "reference")
        made = invoke(*given, *words)
        assert made.exit_code == 0, made.output
        told = ("--rounds", "1", "--seconds", "0.02", "--frames", "16")
        result = invoke("bench", artifact, *told)
        assert result.exit_code == 0, result.output
        assert re.search(r"worst phase .*, step [01] of every 2 \(the fastest", result.output)
        assert ("in steps of 4" in result.output) == bool(words)


def test_bench_against_onnxruntime(tmp_path: Path) -> None:
    """The bench measures both engines in one run and gives ratios."""
    artifact = tmp_path / "tug.edgelstm"
    assert invoke("compile", MODEL_PATH, "-o", artifact).exit_code == 0
    words = ("--rounds", "1", "--seconds", "0.02", "--frames", "50", "--json")
    result = invoke("bench", artifact, "--against", "onnxruntime", "--model", MODEL_PATH, *words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    (peer,) = report["peers"]
    assert peer["name"] == "onnxruntime"
    assert peer["step_ratio"] > 1
    assert report["read_ns"] > 0


@pytest.mark.tvm
def test_run_the_trial(tmp_path: Path) -> None:
    """`run` streams the bundled trial to a CSV of probabilities, time stamps kept."""
    artifact, output = tmp_path / "tug.edgelstm", tmp_path / "phases.csv"
    invoke("compile", MODEL_PATH, "-o", artifact)
    result = invoke("run", artifact, "--input", TRIAL_PATH, "--output", output, "--keep", "time_s")
    assert result.exit_code == 0, result.stderr
    lines = output.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("time_s,phase[0]")
    assert len(lines) == 1 + 2190
    values = np.array([[float(word) for word in line.split(",")] for line in lines[1:]])
    np.testing.assert_allclose(values[:, 1:].sum(axis=1), 1, atol=1e-5)
