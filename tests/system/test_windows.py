"""A model trained on windows, stepped without end: who says so, and `run --reset-every`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm_compiler import compile_model
from tests.models import CellCase, cell_model, stacked_model
from tests.unit.runtime.command_line import invoke

REFERENCE = ("--target", "reference")
SENTENCE = "trained on windows of 5 frames, stepped without end"


def compiled(tmp_path: Path, model: onnx.ModelProto, *options: str) -> tuple[Path, Path, str]:
    """The ONNX file, the artifact, and what compile said on standard error."""
    path, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(model, path)
    mode = () if "--mode" in options else ("--mode", "stream")
    made = invoke("compile", path, "-o", artifact, *REFERENCE, *mode, *options)
    assert made.exit_code == 0, made.stderr
    return path, artifact, made.stderr


def recording(tmp_path: Path, count: int, bad: tuple[int, ...] = ()) -> tuple[Path, np.ndarray]:
    """A CSV of three columns, with gaps in some rows."""
    rows = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    lines = [
        ",".join("" if i in bad and k == 1 else str(float(x)) for k, x in enumerate(row))
        for i, row in enumerate(rows)
    ]
    path = tmp_path / "walk.csv"
    path.write_text("a,b,c\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path, rows


@pytest.mark.parametrize("head", ["sequence", "last_step", "final_state"])
def test_everybody_says_it(head: str, tmp_path: Path) -> None:
    """Compile, inspect of model and artifact, the manifest, and run without --reset-every."""
    model = stacked_model(steps=5, head=head)  # type: ignore[arg-type]
    path, artifact, said = compiled(tmp_path, model)
    assert SENTENCE in said
    assert SENTENCE in invoke("inspect", path).stdout
    assert SENTENCE in invoke("inspect", artifact).stdout
    for file in (path, artifact):
        report = json.loads(invoke("inspect", file, "--json").stdout)
        assert report["window"] == {"frames": 5}
    loaded = edgelstm.load(artifact)
    assert loaded.manifest["window"] == {"frames": 5}
    assert loaded.window_frames == 5
    walk, _ = recording(tmp_path, 12)
    words = ("run", artifact, "-i", walk, "-o", tmp_path / "out.csv")
    assert SENTENCE in invoke(*words).stderr
    assert SENTENCE not in invoke(*words, "--quiet").stderr
    assert "warning" not in invoke(*words, "--reset-every", "5").stderr
    assert SENTENCE in json.loads(invoke(*words, "--json").stdout)["warnings"][0]


@pytest.mark.parametrize(
    ("steps", "options"), [(None, ()), (1, ()), (5, ("--mode", "call"))], ids=str
)
def test_nobody_says_it_of_other_models(
    steps: int | None, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Models of free length, of one frame, and whole windows in call mode have no window."""
    model = cell_model(CellCase(steps=steps, outputs=("Y",)))
    _, artifact, said = compiled(tmp_path, model, *options)
    assert "windows of" not in said
    assert edgelstm.load(artifact).window_frames is None


def test_a_shape_given_for_a_free_length_is_a_window(tmp_path: Path) -> None:
    """The extent of --shape is what the model is taken to be traced with."""
    model = stacked_model(steps=None, head="sequence")
    _, artifact, said = compiled(tmp_path, model, "--shape", "X=7,1,3")
    assert "windows of 7 frames" in said
    assert edgelstm.load(artifact).window_frames == 7


@pytest.mark.parametrize("every", [1, 2, 5, 7, 100])
def test_windows_are_those_of_fresh_sessions(every: int, tmp_path: Path) -> None:
    """Every N frames the outputs are those of a new session."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="last_step"))
    walk, rows = recording(tmp_path, 23)
    out = tmp_path / "out.npy"
    result = invoke("run", artifact, "-i", walk, "-o", out, "--reset-every", str(every))
    assert result.exit_code == 0, result.stderr
    model = edgelstm.load(artifact)
    wanted = [
        model.session().run(rows[start : start + every]) for start in range(0, len(rows), every)
    ]
    np.testing.assert_array_equal(np.load(out), np.concatenate(wanted))


@pytest.mark.parametrize("policy", ["skip", "hold", "reset"])
def test_frames_fed_are_counted(policy: str, tmp_path: Path) -> None:
    """Skipped frames are none of a window's, held ones are, a reset begins a new window."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="last_step"))
    walk, rows = recording(tmp_path, 16, bad=(2, 8, 9))
    out = tmp_path / "out.npy"
    words = ("--reset-every", "5", "--on-bad-sample", policy)
    result = invoke("run", artifact, "-i", walk, "-o", out, *words)
    assert result.exit_code == 0, result.stderr
    good = [i for i in range(16) if i not in (2, 8, 9)]
    windows = {
        "skip": [good[0:5], good[5:10], good[10:13]],
        "hold": [[0, 1, 1, 3, 4], [5, 6, 7, 7, 7], [10, 11, 12, 13, 14], [15]],
        "reset": [[0, 1], [3, 4, 5, 6, 7], [10, 11, 12, 13, 14], [15]],
    }[policy]
    model = edgelstm.load(artifact)
    wanted = np.concatenate([model.session().run(rows[window]) for window in windows])
    np.testing.assert_array_equal(np.load(out), wanted)


def test_a_live_stream_counts_over_its_lines(tmp_path: Path) -> None:
    """Windows go on from line to line of standard input."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="last_step"))
    walk, rows = recording(tmp_path, 12)
    command = [sys.executable, "-m", "edgelstm.cli", "run", str(artifact), "--reset-every", "5"]
    with walk.open("rb") as source:
        result = subprocess.run(command, stdin=source, capture_output=True, text=True, check=True)
    found = np.loadtxt(result.stdout.splitlines()[1:], delimiter=",", ndmin=2)
    model = edgelstm.load(artifact)
    parts = [model.session().run(rows[start : start + 5]) for start in (0, 5, 10)]
    np.testing.assert_allclose(found[:, -5:], np.concatenate(parts), atol=1e-6)


def test_longer_than_the_window_and_call_mode(tmp_path: Path) -> None:
    """More frames than a window has get a warning; calls have no stream to reset."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="last_step"))
    walk, _ = recording(tmp_path, 12)
    result = invoke("run", artifact, "-i", walk, "--reset-every", "6")
    assert "windows of 5 frames" in result.stderr
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="sequence"), "--mode", "call")
    result = invoke("run", artifact, "-i", walk, "--reset-every", "6")
    assert result.exit_code == 2
    assert "call" in result.stderr


@pytest.mark.parametrize("cut", [3, 5, 7, 10])
def test_a_resumed_run_is_in_the_same_window(cut: int, tmp_path: Path) -> None:
    """The state file holds how far the window was."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5, head="last_step"))
    walk, rows = recording(tmp_path, 13)
    lines = walk.read_text(encoding="utf-8").splitlines(keepends=True)
    short, out, state = (tmp_path / name for name in ("short.csv", "out.csv", "stream.state"))
    short.write_text("".join(lines[: cut + 1]), encoding="utf-8")
    words = ("-o", out, "--reset-every", "5", "--state-file", state)
    assert invoke("run", artifact, "-i", short, *words).exit_code == 0
    resumed = invoke("run", artifact, "-i", walk, *words, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    found = np.loadtxt(out.read_text(encoding="utf-8").splitlines()[1:], delimiter=",", ndmin=2)
    model = edgelstm.load(artifact)
    parts = [model.session().run(rows[start : start + 5]) for start in (0, 5, 10)]
    np.testing.assert_allclose(found[:, -5:], np.concatenate(parts), atol=1e-6)


UNBOUNDED = {
    "rnn relu": (CellCase(op="RNN", activations=("Relu",), steps=None, gain=0.3), True),
    "keras relu": (
        CellCase(activations=("Sigmoid", "Relu", "Relu"), steps=None, gain=0.3),
        True,
    ),
    "gru softplus": (
        CellCase(op="GRU", activations=("Sigmoid", "Softplus"), steps=None, gain=0.3),
        True,
    ),
    "clipped": (CellCase(op="RNN", activations=("Relu",), clip=2.0, steps=None, gain=0.3), False),
    "hard": (CellCase(op="RNN", activations=("HardSigmoid",), steps=None), False),
    "lstm": (CellCase(steps=None), False),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_unbounded_activations_get_a_warning(name: str) -> None:
    """A cell that feeds an unbounded activation back can diverge; clip and others bound it."""
    case, warned = UNBOUNDED[name]
    artifact = compile_model(cell_model(case), target="reference")
    assert any("can grow" in text for text in artifact.warnings) is warned


def test_unbounded_activations_of_a_call_are_as_trained() -> None:
    """A whole window is what was trained: nothing is said."""
    model = cell_model(CellCase(op="RNN", activations=("Relu",), steps=5, gain=0.3))
    assert compile_model(model, target="reference", mode="call").warnings == ()


@pytest.mark.parametrize(
    ("policy", "windows"),
    [
        ("hold", [(1, 5, 0), (6, 10, 1), (11, 15, 1), (16, 20, 0)]),
        ("skip", [(1, 5, 0), (6, 10, 1), (11, 15, 1)]),
        ("reset", [(1, 5, 0), (12, 16, 0)]),
    ],
)
def test_windows_tell_the_bad_samples_among_them(
    policy: str, windows: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    """Held ones count where they stand, skipped ones with the frame behind them."""
    model = stacked_model(steps=5, head="last_step")
    _, artifact, _ = compiled(tmp_path, model, "--mode", "window", "--hop", "5")
    walk, _ = recording(tmp_path, 20, bad=(7, 12))
    out = tmp_path / "out.csv"
    made = invoke("run", artifact, "-i", walk, "-o", out, "--on-bad-sample", policy)
    assert made.exit_code == 0, made.stderr
    names = ("first_frame", "last_frame", "bad_frames")
    table = np.genfromtxt(out, delimiter=",", names=True, usecols=range(3), dtype=int)
    assert [tuple(int(row[name]) for name in names) for row in table] == windows


def test_reset_every_is_refused_for_windows_wherever_it_is_said(tmp_path: Path) -> None:
    """On the command line, in a file of settings, and in live runs."""
    _, artifact, _ = compiled(tmp_path, stacked_model(steps=5), "--mode", "window", "--hop", "5")
    walk, _ = recording(tmp_path, 20)
    out, ward = tmp_path / "out.csv", tmp_path / "ward.toml"
    ward.write_text(f"inputs = '{walk}'\noutputs = '{out}'\nreset-every = 3\n", encoding="utf-8")
    live = ["-i", f"file:{walk}", "-o", f"file:{out}", "--rate", "100"]
    for arguments in (
        ["-i", walk, "-o", out, "--reset-every", "3"],
        ["--config", ward],
        [*live, "--reset-every", "3"],
        [*live, "--config", ward],
    ):
        made = invoke("run", artifact, *arguments)
        assert made.exit_code, arguments
        assert "reset-every" in made.stderr
        assert "windows of its own: leave it out" in made.stderr
        assert not out.exists()
