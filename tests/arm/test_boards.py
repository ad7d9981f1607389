"""The exported demo on emulated microcontroller boards, from the reset vector to PASS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.streams.recording import read_frames
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.demo import MODEL_PATH, TRIAL_PATH
from tests.arm.c_project import export, run_on_board

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

WHOLE = 100_000
BOARDS = {
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
}


@pytest.mark.parametrize("target", BOARDS)
def test_demo(target: str, tmp_path: Path) -> None:
    """The bundled trial gives on the board what NumPy gives, the same phases among it."""
    artifact = compile_model(MODEL_PATH, target=target, check=False)
    frames = read_frames(TRIAL_PATH, artifact.signature)
    folder = export(artifact, tmp_path, model=MODEL_PATH, frames=frames, steps=WHOLE)
    golden = record_golden(artifact, frames, WHOLE, MODEL_PATH)
    phases = np.frombuffer(golden.outputs, "f4").reshape(golden.steps, -1).argmax(axis=1)
    assert set(phases) == set(range(5)), "the trial shows every phase"
    assert "tug_phase: PASS" in run_on_board(folder, target, BOARDS[target])
