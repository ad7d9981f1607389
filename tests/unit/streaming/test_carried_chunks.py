"""Models that take several frames a step: single frames are cut into steps, and outputs joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import SampleShapeError
from edgelstm.io.files import open_source
from edgelstm_compiler import compile_model
from tests.carried_models import CarriedCase, make_case
from tests.unit.runtime.command_line import invoke

STEPS = 6


def chunked(seed: int) -> tuple[CarriedCase, Artifact]:
    """A model of several frames a step."""
    case = make_case(seed)
    artifact = compile_model(case.model, target="reference", check=False)
    assert artifact.signature.inputs[0].chunk_axis is not None
    return case, artifact


def single_frames(case: CarriedCase, artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """The same input as steps, and as single frames."""
    (spec,) = artifact.signature.inputs
    steps = case.frames(STEPS)[spec.name].reshape(STEPS, *spec.shape)
    moved = np.moveaxis(steps, 1 + spec.chunk_axis, 1)
    rest = [extent for axis, extent in enumerate(spec.shape) if axis != spec.chunk_axis]
    return steps, np.ascontiguousarray(moved).reshape(-1, *rest)


@pytest.mark.parametrize("seed", [6, 14, 16, 30])
def test_single_frames_are_cut_into_steps(seed: int) -> None:
    """`run` gives for single frames what it gives for whole steps, frame by frame."""
    case, artifact = chunked(seed)
    steps, frames = single_frames(case, artifact)
    (shown,) = artifact.signature.outputs
    whole = artifact.session().run(steps)
    wanted = case.replay(case.frames(STEPS))[case.shown[0]]
    np.testing.assert_allclose(whole.reshape(wanted.shape), wanted, rtol=0, atol=2e-6)
    found = artifact.session().run(frames)
    assert len(found) == len(frames)
    moved = np.moveaxis(whole, 1 + shown.chunk_axis, 1)
    np.testing.assert_array_equal(found, moved.reshape(found.shape))


def test_frames_that_fill_no_step_are_refused() -> None:
    """The message says how many a step takes, and nothing was fed."""
    case, artifact = chunked(14)
    _, frames = single_frames(case, artifact)
    session = artifact.session()
    with pytest.raises(SampleShapeError, match="a step takes 5 frames"):
        session.run(frames[:7])
    np.testing.assert_array_equal(session.run(frames), artifact.session().run(frames))


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".ndjson"])
def test_recordings_of_single_frames_are_cut(suffix: str, tmp_path: Path) -> None:
    """In every format; what is left over at the end is told."""
    case, artifact = chunked(14)
    steps, frames = single_frames(case, artifact)
    longer = np.concatenate([frames, frames[:2]])
    path = tmp_path / f"frames{suffix}"
    if suffix == ".npy":
        np.save(path, longer)
    elif suffix == ".csv":
        rows = ["a,b,c", *(",".join(str(x) for x in row.tolist()) for row in longer)]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    else:
        path.write_text("\n".join(str(row.tolist()) for row in longer) + "\n", encoding="utf-8")
    with open_source(str(path), artifact.signature) as source:
        found = [batch.frames["x"] for batch in source.batches()]
        assert any("the last 2 frames do not fill a step of 5" in text for text in source.remarks)
    np.testing.assert_allclose(np.concatenate(found), steps, rtol=1e-6)


def test_recordings_of_whole_steps_stay_as_they_are(tmp_path: Path) -> None:
    """An array of steps, or a table with as many columns."""
    case, artifact = chunked(14)
    steps, _ = single_frames(case, artifact)
    path = tmp_path / "steps.npy"
    np.save(path, steps)
    with open_source(str(path), artifact.signature) as source:
        found = np.concatenate([batch.frames["x"] for batch in source.batches()])
    np.testing.assert_array_equal(found, steps)


def test_the_command_runs_a_recording_of_single_frames(tmp_path: Path) -> None:
    """One row of the output a frame; the rest at the end is a warning."""
    case, artifact = chunked(14)
    _, frames = single_frames(case, artifact)
    artifact.save(tmp_path / "a.edgelstm")
    np.save(tmp_path / "in.npy", np.concatenate([frames, frames[:2]]))
    done = invoke(
        "run", tmp_path / "a.edgelstm", "-i", tmp_path / "in.npy", "-o", tmp_path / "out.npy"
    )
    assert done.exit_code == 0, done.output
    assert "the last 2 frames do not fill a step of 5" in done.stderr
    wanted = artifact.session().run(frames)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)


def test_the_chunk_is_kept_in_the_artifact(tmp_path: Path) -> None:
    """A signature is read back as it was written."""
    _, artifact = chunked(14)
    artifact.save(tmp_path / "a.edgelstm")
    assert Artifact.load(tmp_path / "a.edgelstm").signature == artifact.signature
