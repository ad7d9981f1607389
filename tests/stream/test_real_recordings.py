"""The demo model over real recordings of a phone: people that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import MODEL_PATH, REPORT_PATH
from edgelstm_compiler.demo.recordings import Recording, load_recordings
from tests.oracle import FP32, run_onnxruntime
from tests.unit.runtime.command_line import invoke

pytestmark = [pytest.mark.corpus, pytest.mark.tvm]


@pytest.fixture(scope="module")
def held_out(corpus: Path) -> list[Recording]:
    """Whole trials of the two people that training never saw."""
    subjects = json.loads(REPORT_PATH.read_text(encoding="utf-8"))["held_out"]["subjects"]
    recordings = load_recordings(corpus / "data" / "imu_sp_sw_har")
    return [recording for recording in recordings if recording.subject in subjects]


def test_streaming_equals_onnxruntime_and_the_reported_accuracy(held_out: list[Recording]) -> None:
    """Frame by frame from zero state: ONNX Runtime's whole sequences, and the accuracy reported."""
    report = json.loads(REPORT_PATH.read_text(encoding="utf-8"))["held_out"]
    artifact = compile_model(MODEL_PATH, rate_hz=100)
    session = artifact.session()
    model = onnx.load(MODEL_PATH)
    right = total = 0
    for recording in held_out:
        session.reset()
        rows = np.stack([np.array(session.step(frame)) for frame in recording.samples])
        (expected,) = run_onnxruntime(model, {"imu": recording.samples[None]}).values()
        assert np.max(np.abs(rows - expected[0])) <= FP32.absolute, recording.name
        right += int(np.sum(rows.argmax(axis=1) == recording.labels))
        total += len(rows)
    assert total == report["samples"]
    assert right / total == pytest.approx(report["accuracy"], abs=1e-3)


def test_run_reads_the_dataset_as_it_is(corpus: Path, tmp_path: Path) -> None:
    """`edgelstm run` takes a recording of the dataset, other columns kept on request."""
    artifact, output = tmp_path / "tug.edgelstm", tmp_path / "out.csv"
    recording = next((corpus / "data" / "imu_sp_sw_har").rglob("s02_01_sp.csv"))
    assert invoke("compile", MODEL_PATH, "-o", artifact).exit_code == 0
    keep = ("--keep", "timestamp", "--keep", "label")
    result = invoke("run", artifact, "--input", recording, "--output", output, *keep)
    assert result.exit_code == 0, result.stderr
    lines = output.read_text(encoding="utf-8").splitlines()
    rows = recording.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(rows)
    assert lines[0] == "timestamp,label,phase[0],phase[1],phase[2],phase[3],phase[4]"
    assert lines[1].split(",")[:2] == rows[1].split(",")[-2:]
