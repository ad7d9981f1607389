"""`run --state-file` of models whose outputs come later than their frames, or slower."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError
from edgelstm.interruption import Interrupted, StopRequest
from edgelstm.io.base import Source
from edgelstm.io.stream_run import StreamOptions, StreamRun
from edgelstm.pace import Pace
from tests.late_models import PADDED, SLOW, TWO, VALID, late_model, rows_by_frame

MODELS = {"padded": PADDED, "slow": SLOW, "two": TWO, "valid": VALID}
FRAMES = 50
X = np.random.default_rng(4).standard_normal((FRAMES, 2)).astype(np.float32)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Artifact:
    return late_model(MODELS[request.param])


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seventh frame the state is saved, and a run may end."""

    def stretches(self: Pace, n_steps: int) -> Iterator[slice]:
        del self
        return (slice(at, min(at + 7, n_steps)) for at in range(0, n_steps, 7))

    monkeypatch.setattr(Pace, "stretches", stretches)


class _StopAt(StopRequest):
    """A signal that comes behind the n-th stretch."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def check(self) -> None:
        self._looks -= not self._may_raise
        if self._looks <= 0:
            self._number = signal.SIGTERM
        super().check()


def _shown(source: Source) -> AbstractContextManager[Callable[[int], None]]:
    del source
    return nullcontext(lambda count: None)


def _run(model: Artifact, folder: Path, form: str, looks: int = 10**9, **options: Any) -> None:
    chosen: dict[str, Any] = {
        "input_path": str(folder / "walk.csv"),
        "output_path": str(folder / f"out.{form}"),
        "state_path": folder / "state.json",
        "save_every_s": 0,
        "is_resumed": True,
        "keep": ("t",),
        "columns": ("a", "b"),
    }
    chosen |= options
    run = StreamRun(
        model,
        StreamOptions(**chosen),
    )
    run.run(_StopAt(looks), _shown)


def _write(path: Path, frames: np.ndarray) -> None:
    rows = "".join(f"t{i},{a!r},{b!r}\n" for i, (a, b) in enumerate(frames.tolist()))
    path.write_text("t,a,b\n" + rows, encoding="utf-8")


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_ended_anywhere_and_resumed_it_is_one_run(
    model: Artifact, form: str, tmp_path: Path
) -> None:
    """To the bit, with what passes through beside its own rows, end included."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "walk.csv", X)
    _run(model, tmp_path / "whole", form)
    ends = 0
    for looks in (2, 1, 3):
        try:
            _run(model, tmp_path / "parts", form, looks)
        except Interrupted:
            ends += 1
    assert ends == 3, "it was to be cut off"
    _run(model, tmp_path / "parts", form)
    whole, parts = ((tmp_path / name / f"out.{form}").read_bytes() for name in ("whole", "parts"))
    assert parts == whole
    _run(model, tmp_path / "parts", form)
    assert (tmp_path / "parts" / f"out.{form}").read_bytes() == whole
    if form == "ndjson":
        lines = [json.loads(line) for line in whole.splitlines()]
        expected = rows_by_frame(model, X)
        assert len(lines) == len(expected)
        told = [line["t"] for line in lines if line["t"] != ""]
        assert told == [f"t{number}" for number in expected if number < FRAMES]


def test_arrays_are_resumed_too(model: Artifact, tmp_path: Path) -> None:
    """A file of arrays is written at the end of each run."""
    _write(tmp_path / "walk.csv", X)
    with pytest.raises(Interrupted):
        _run(model, tmp_path, "npz", 3, keep=())
    _run(model, tmp_path, "npz", keep=())
    expected = rows_by_frame(model, X)
    with np.load(tmp_path / "out.npz") as arrays:
        for place, spec in enumerate(model.signature.outputs):
            wanted = np.array([line[place] for line in expected.values()])
            np.testing.assert_array_equal(arrays[spec.name].reshape(wanted.shape), wanted)


def test_a_recording_that_grew(tmp_path: Path) -> None:
    """Behind an end that was told, nothing comes; where nothing was told of it, it goes on."""
    for layers, is_refused in ((PADDED, True), (SLOW, True), (VALID, False)):
        model, folder = late_model(layers), tmp_path / str(layers[0][2])
        folder.mkdir()
        _write(folder / "walk.csv", X[:30])
        _run(model, folder, "csv")
        _write(folder / "walk.csv", X)
        if is_refused:
            with pytest.raises(RecordingError, match=r"walk.csv:32: .*had ended here.*begin anew"):
                _run(model, folder, "csv")
        else:
            _run(model, folder, "csv")
            (tmp_path / "whole").mkdir()
            _write(tmp_path / "whole" / "walk.csv", X)
            _run(model, tmp_path / "whole", "csv")
            assert (folder / "out.csv").read_bytes() == (tmp_path / "whole/out.csv").read_bytes()


def test_a_pipe_goes_on_with_the_next_one(
    model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a state is kept, the end of a pipe is not that of the stream; else it is."""
    for part in (X[:23], X[23:]):
        with _piped(monkeypatch, part):
            _run(model, tmp_path, "csv", input_path="-", keep=())
    begun = rows_by_frame(model, X, is_ended=False)
    _expect_rows(tmp_path / "out.csv", [begun[number] for number in _known(model, begun)])
    with _piped(monkeypatch, X):
        ended = {"output_path": str(tmp_path / "ended.csv"), "state_path": None}
        _run(model, tmp_path, "csv", input_path="-", keep=(), is_resumed=False, **ended)
    _expect_rows(tmp_path / "ended.csv", list(rows_by_frame(model, X).values()))


def test_lines_behind_the_last_state_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed wrote a line that its state does not know of; it stays."""
    model, output = late_model(PADDED), tmp_path / "out.csv"
    with _piped(monkeypatch, X[:20]):
        _run(model, tmp_path, "csv", input_path="-", keep=())
    with output.open("a", encoding="utf-8") as file:
        file.write("1.5,2.5\n")
    with _piped(monkeypatch, X[20:]):
        _run(model, tmp_path, "csv", input_path="-", keep=())
    lines = output.read_text(encoding="utf-8").splitlines()
    # Frame 19 waited in the state, and its line had been written: frame 20 comes next.
    assert lines[20] == "1.5,2.5"
    begun = rows_by_frame(model, X, is_ended=False)
    found = np.array([[float(x) for x in line.split(",")] for line in lines[21:]], np.float32)
    np.testing.assert_array_equal(found, np.array([begun[n][0] for n in range(20, FRAMES - 1)]))


def _known(model: Artifact, begun: dict[int, np.ndarray]) -> list[int]:
    """Frames of which all is said before the end."""
    outputs = model.signature.outputs
    ends = [
        next((n for n in range(FRAMES) if n % s.stride == 0 and n + s.delay >= FRAMES), FRAMES)
        for s in outputs
    ]
    return [number for number in begun if number < min(ends)]


@contextmanager
def _piped(monkeypatch: pytest.MonkeyPatch, frames: np.ndarray) -> Iterator[None]:
    """Standard input is a pipe with these frames."""
    read, write = os.pipe()
    text = "a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in frames.tolist())
    os.write(write, text.encode())
    os.close(write)
    with os.fdopen(read, "r") as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        yield


def _expect_rows(path: Path, lines: list[np.ndarray]) -> None:
    _, *rows = path.read_text(encoding="utf-8").splitlines()
    found = [[float(x) for x in row.split(",")] for row in rows]
    np.testing.assert_array_equal(
        np.array(found, np.float32), np.array([line.reshape(-1) for line in lines])
    )
