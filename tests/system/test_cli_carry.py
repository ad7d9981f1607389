"""States as inputs and outputs on the command line: compile, inspect, verify, calibrate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.carried_models import convolutions, packed_cells
from tests.unit.runtime.command_line import invoke


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "dtln.onnx"
    onnx.save(packed_cells(np.random.default_rng(4)).model, path)
    return path


def test_inspect_shows_the_pairs_of_a_model(model: Path) -> None:
    """With what they rest on, in text and as JSON."""
    text = invoke("inspect", model)
    assert text.exit_code == 0
    assert "input_7 <- tf_stack_3" in text.output
    report = json.loads(invoke("inspect", model, "--json").output)
    assert report["carried"]["states"][0]["output"] == "tf_stack_3"
    assert report["streamable"]


def test_compile_tells_the_pairs_and_verify_replays_them(model: Path, tmp_path: Path) -> None:
    """`verify` calls ONNX Runtime step by step with the state fed back."""
    artifact = tmp_path / "dtln.edgelstm"
    compiled = invoke("compile", model, "-o", artifact, "--target", "reference")
    assert compiled.exit_code == 0, compiled.output
    assert "carried from step to step: input_7 <- tf_stack_3" in compiled.stderr
    np.save(tmp_path / "frames.npy", np.random.default_rng(0).standard_normal((9, 5), np.float32))
    for given in ((), ("--input", tmp_path / "frames.npy")):
        checked = invoke("verify", artifact, "--model", model, "--frames", 9, *given)
        assert checked.exit_code == 0, checked.output
        assert "states fed back, 9 steps" in checked.output
    assert "input_7 <- tf_stack_3" in invoke("inspect", artifact).output


def test_verify_fails_where_the_state_is_not_what_the_model_carries(tmp_path: Path) -> None:
    """A model with another weight behind the state is another function."""
    case = packed_cells(np.random.default_rng(4))
    path, other = tmp_path / "a.onnx", tmp_path / "b.edgelstm"
    onnx.save(case.model, path)
    assert invoke("compile", path, "-o", other, "--target", "reference").exit_code == 0
    changed = onnx.load(path)
    changed.producer_name = "changed"
    onnx.save(changed, path)
    refused = invoke("verify", other, "--model", path)
    assert refused.exit_code == 3
    assert "another model" in refused.output + refused.stderr


def test_the_three_options_reach_the_compiler(tmp_path: Path) -> None:
    """--carry, --no-carry and --overlap; contradictions are misuse."""
    path = tmp_path / "conv.onnx"
    case = convolutions(np.random.default_rng(7))
    onnx.save(case.model, path)
    out = tmp_path / "conv.edgelstm"
    pairs = [word for a, b in case.pairs.items() for word in ("--carry", f"{a}={b}")]
    given = invoke("compile", path, "-o", out, "--target", "reference", *pairs)
    assert given.exit_code == 0, given.output
    assert "(as given)" in given.stderr
    without = invoke("compile", path, "-o", out, "--target", "reference", "--no-carry")
    assert without.exit_code == 3
    both = invoke("compile", path, "-o", out, "--no-carry", *pairs)
    assert both.exit_code == 2
    bad = invoke("compile", path, "-o", out, "--overlap", "many")
    assert bad.exit_code == 2


def test_quantizing_calibrates_on_steps(model: Path, tmp_path: Path) -> None:
    """Schemes with and without calibration; `verify` restores the same pairs."""
    frames = tmp_path / "frames.npy"
    np.save(frames, np.random.default_rng(0).standard_normal((200, 5), np.float32))
    for words in (("w8",), ("fp16",), ("int8", "--calibrate", frames)):
        out = tmp_path / "q.edgelstm"
        made = invoke("compile", model, "-o", out, "--target", "reference", "--quantize", *words)
        assert made.exit_code == 0, made.output
        checked = invoke("verify", out, "--model", model, "--frames", 20)
        assert checked.exit_code == 0, checked.output
    calibrated = invoke("calibrate", model, "--input", frames, "-o", tmp_path / "c.json")
    assert calibrated.exit_code == 0, calibrated.output


def test_bench_times_onnx_runtime_with_the_states_it_wants(model: Path, tmp_path: Path) -> None:
    """The peer gets states and context beside the frames."""
    out = tmp_path / "dtln.edgelstm"
    made = invoke("compile", model, "-o", out, "--target", "reference", "--overlap", "frame@2=2")
    assert made.exit_code == 0, made.output
    timed = invoke(
        *("bench", out, "--against", "onnxruntime", "--model", model),
        *("--rounds", "1", "--seconds", "0.05", "--json"),
    )
    assert timed.exit_code == 0, timed.output + timed.stderr
    assert json.loads(timed.output)["peers"][0]["step_ns"] > 0
