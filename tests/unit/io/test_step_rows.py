"""Lines of models that take several frames a step: a frame each, or a step with its frames."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm.io.step_rows import FramesOfSteps, row_columns, step_rows
from edgelstm_compiler import compile_model
from tests.carried_models import make_case
from tests.models import lstm_model
from tests.unit.runtime.command_line import invoke

CHUNK = 4
FRAMES = 11
X = np.random.default_rng(4).standard_normal((FRAMES, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """A model that says what it knows after each chunk, and its file."""
    model = lstm_model(outputs=("Y_h",))
    artifact = compile_model(model, target="reference", check=False, chunk=CHUNK)
    path = tmp_path_factory.mktemp("newest") / "a.edgelstm"
    artifact.save(path)
    return artifact, path


def write_csv(path: Path, frames: np.ndarray, gap: int | None = None) -> Path:
    """A recording with a column that passes through; line `gap` holds no numbers."""
    rows = ["n,a,b,c", *(f"{i}," + ",".join(map(str, x.tolist())) for i, x in enumerate(frames))]
    if gap is not None:
        rows[gap + 1] = f"{gap},,,"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def lines_of(text: str) -> list[dict[str, str]]:
    """CSV by the names of its columns."""
    return list(csv.DictReader(text.splitlines()))


def values_of(lines: list[dict[str, str]]) -> np.ndarray:
    """The numbers of Y_h."""
    return np.array([[float(v) for k, v in x.items() if k.startswith("Y_h")] for x in lines])


def test_a_line_is_a_step_with_its_frames(newest: tuple[Artifact, Path], tmp_path: Path) -> None:
    """The value behind each chunk, with what passes through there, and the rest at the end."""
    artifact, path = newest
    source = write_csv(tmp_path / "in.csv", X)
    done = invoke("run", path, "-i", source, "--keep", "n", "--columns", "a,b,c", "-o", "-")
    assert done.exit_code == 0, done.output
    lines = lines_of(done.stdout)
    told = [(x["n"], x["first_frame"], x["last_frame"]) for x in lines]
    assert told == [("3", "1", "4"), ("7", "5", "8"), ("10", "9", "11")]
    every = artifact.session().run(X)
    wanted = every[[3, 7, 10]].reshape(3, -1)
    np.testing.assert_allclose(values_of(lines), wanted, 1e-6)
    out = tmp_path / "out.ndjson"
    done = invoke("run", path, "-i", source, "--columns", "a,b,c", "-o", out)
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(x["first_frame"], x["last_frame"]) for x in found] == [(1, 4), (5, 8), (9, 11)]
    np.testing.assert_allclose([np.ravel(x["Y_h"]) for x in found], wanted, 1e-6)


def test_steps_begin_anew_with_the_stream(newest: tuple[Artifact, Path], tmp_path: Path) -> None:
    """What a reset cuts off is said, with as many frames as it had."""
    source = write_csv(tmp_path / "in.csv", X)
    done = invoke(
        "run", newest[1], "-i", source, "--columns", "a,b,c", "--reset-every", 6, "-o", "-"
    )
    told = [(x["first_frame"], x["last_frame"]) for x in lines_of(done.stdout)]
    assert told == [("1", "4"), ("5", "6"), ("7", "10"), ("11", "11")]


def test_a_bad_sample_spoils_no_step(newest: tuple[Artifact, Path], tmp_path: Path) -> None:
    """It is left out alone; steps are of the frames that were fed."""
    source = write_csv(tmp_path / "in.csv", X, gap=2)
    done = invoke(
        "run", newest[1], "-i", source, "--columns", "a,b,c", "--keep", "n",
        "--on-bad-sample", "skip", "-o", "-",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    lines = lines_of(done.stdout)
    told = [(x["n"], x["first_frame"], x["last_frame"]) for x in lines]
    assert told == [("4", "1", "4"), ("8", "5", "8"), ("10", "9", "10")]
    every = newest[0].session().run(np.delete(X, 2, 0))
    np.testing.assert_allclose(values_of(lines), every[[3, 7, 9]].reshape(3, -1), 1e-6)


def test_a_resumed_run_writes_the_lines_of_an_undisturbed_one(
    newest: tuple[Artifact, Path], tmp_path: Path
) -> None:
    """A chunk that the first run left open is closed by the second."""
    out, state = tmp_path / "out.csv", tmp_path / "run.state"
    for count in (6, FRAMES):
        source = write_csv(tmp_path / "in.csv", X[:count])
        given = ("run", newest[1], "-i", source, "--columns", "a,b,c", "--state-file", state)
        done = invoke(*given, *(() if count == 6 else ("--resume",)), "-o", out)
        assert done.exit_code == 0, done.output
        left = {6: 2, FRAMES: 3}[count]
        assert f"the last {left} frames fill no step of 4" in done.stderr
    lines = lines_of(out.read_text(encoding="utf-8"))
    assert [(x["first_frame"], x["last_frame"]) for x in lines] == [("1", "4"), ("5", "8")]
    every = newest[0].session().run(X)
    np.testing.assert_allclose(values_of(lines), every[[3, 7]].reshape(2, -1), 1e-6)


def test_outputs_along_time_have_a_line_for_each_frame(tmp_path: Path) -> None:
    """And what others are behind that frame, whatever a step takes."""
    model = lstm_model(outputs=("Y", "Y_h"))
    for chunk in (None, CHUNK):
        artifact = compile_model(model, target="reference", mode="stream", check=False, chunk=chunk)
        artifact.save(tmp_path / f"{chunk}.edgelstm")
    source = write_csv(tmp_path / "in.csv", X)
    found = [
        invoke("run", tmp_path / f"{x}.edgelstm", "-i", source, "--columns", "a,b,c", "-o", "-")
        for x in (None, CHUNK)
    ]
    assert len(lines_of(found[0].stdout)) == FRAMES
    assert found[0].stdout == found[1].stdout


def test_a_late_newest_value_has_the_lines_of_its_steps() -> None:
    """It begins late, and what comes behind the last frame is the last line."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "front", pads=[0, 2]),
        helper.make_node("ReduceMax", ["c", "two"], ["y"], "top", keepdims=0),
    ]
    stored = [
        numpy_helper.from_array(rng.standard_normal((2, 3, 3)).astype(np.float32), "k"),
        numpy_helper.from_array(np.array([2]), "two"),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "T"])]
    shown = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "late", given, shown, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    artifact = compile_model(model, target="reference", check=False, chunk=2)
    assert artifact.signature.outputs[0].warm_up == 2
    rows = step_rows(artifact.signature, is_cut=False)
    assert rows is not None
    lines: list[tuple[int, int, np.ndarray]] = []

    def take(*, is_over: bool = False) -> None:
        found = rows.ready(is_over=is_over)
        if found is not None:
            said = found[0]["y"]
            assert found[1]["n"] == [last - 1 for last in found[1]["last_frame"]]
            pairs = zip(found[1]["first_frame"], found[1]["last_frame"], said, strict=True)
            lines.extend(pairs)

    with artifact.session() as session:
        every = []
        for start, stop in ((0, 1), (1, 4), (4, 9)):
            every.append(session.run(X[start:stop]))
            rows.add({"y": every[-1]}, {"n": list(range(start, stop))}, stop - start)
            take()
        every.append(session.finish())
        rows.add({"y": every[-1]}, {}, 0)
        take(is_over=True)
    whole = np.concatenate(every)
    assert [(first, last) for first, last, _ in lines] == [(3, 4), (5, 6), (7, 8), (9, 9)]
    for (_, last, said), step in zip(lines, (3, 5, 7, 10), strict=True):
        np.testing.assert_array_equal(said, whole[step - 2], err_msg=str(last))


def test_calls_of_several_frames_give_a_line_for_each(tmp_path: Path) -> None:
    """Where the model has a row for each, with what passes through of that frame."""
    case = make_case(14)
    artifact = compile_model(case.model, target="reference", check=False)
    (spec,) = artifact.signature.inputs
    assert spec.chunk_axis == 0
    frames = np.random.default_rng(2).standard_normal((12, *spec.shape[1:])).astype(np.float32)
    artifact.save(tmp_path / "a.edgelstm")
    source = write_csv(tmp_path / "in.csv", frames)
    given = ("--columns", "a,b,c", "--keep", "n")
    done = invoke("run", tmp_path / "a.edgelstm", "-i", source, *given, "-o", "-")
    assert done.exit_code == 0, done.output
    assert "the last 2 frames do not fill a step of 5" in done.stderr
    lines = lines_of(done.stdout)
    assert [x["n"] for x in lines] == [str(i) for i in range(10)]
    assert "first_frame" not in lines[0]
    wanted = artifact.session().run(frames[:10]).reshape(10, -1)
    found = np.array([[float(v) for k, v in x.items() if k != "n"] for x in lines])
    np.testing.assert_allclose(found, wanted, 1e-6)


def test_what_is_said_once_a_call_stands_with_its_last_frame() -> None:
    """Beside rows of frames NaN where there is nothing; alone a line a step, with its frames."""
    artifact = compile_model(make_case(14).model, target="reference", check=False)
    signature = artifact.signature
    (spec,) = signature.outputs
    rng = np.random.default_rng(1)
    steps, once = rng.standard_normal((2, *spec.shape)), rng.standard_normal((2, 7))
    other = type(spec)("once", spec.dtype, (7,), 0, (7,))
    both = replace(signature, outputs=(spec, other))
    kept = {"n": [tuple(range(5)), tuple(range(5, 10))]}
    rows = FramesOfSteps(both)
    rows.add({spec.name: steps, "once": once}, kept, 2)
    found = rows.ready()
    assert found is not None
    np.testing.assert_array_equal(found[0][spec.name], steps.reshape(10, *spec.shape[1:]))
    said = found[0]["once"]
    np.testing.assert_array_equal(said[[4, 9]], once.astype(np.float32))
    assert np.isnan(np.delete(said, [4, 9], 0)).all()
    assert found[1]["n"] == list(range(10))
    assert row_columns(both, is_cut=True) == ()
    alone = replace(signature, outputs=(other,))
    rows = FramesOfSteps(alone)
    rows.add({"once": once}, kept, 2)
    found = rows.ready()
    assert found is not None
    assert found[1] == {"n": [4, 9], "first_frame": [1, 6], "last_frame": [5, 10]}
    assert row_columns(alone, is_cut=True) == ("first_frame", "last_frame")
