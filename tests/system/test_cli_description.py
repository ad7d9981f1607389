"""Columns, units, ranges, rate and labels from `compile` to `inspect` and `run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.unit.runtime.command_line import invoke

WALK = np.random.default_rng(0).uniform(-1, 1, (120, 3)) * [9, 9, 200]


def write(path: Path, header: str, *columns: Any) -> Path:
    np.savetxt(path, np.column_stack(columns), delimiter=",", header=header, comments="")
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes that knows its columns."""
    folder = tmp_path_factory.mktemp("described")
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((1, 12, 3)).astype(np.float32), name)
        for name in ("W", "R")
    ]
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R"], ["Y"], hidden_size=3),
        helper.make_node("Softmax", ["Y"], ["p"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "gait",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, 3])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "gait.onnx"))
    walk = write(folder / "walk.csv", "gyro_z,acc_x,acc_y", WALK[:, 2], WALK[:, 0], WALK[:, 1])
    words = ["compile", folder / "gait.onnx", "-o", folder / "gait.edgelstm", "--no-check"]
    words += ["--target", "reference", "--columns", "acc_x,acc_y,gyro_z", "--calibrate", walk]
    words += ["--units", "m/s^2,m/s^2,deg/s", "--labels", "sit,walk,run", "--rate", "100"]
    result = invoke(*words)
    assert result.exit_code == 0, result.stderr
    return folder / "gait.edgelstm"


def predictions(path: Path) -> np.ndarray:
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return np.array([row[-3:] for row in rows], np.float32)


def test_inspect_shows_them(artifact: Path) -> None:
    """In words and in JSON; ranges are those of the columns by name."""
    text = invoke("inspect", artifact).output
    for word in ("acc_x", "m/s^2", "deg/s", "classes of p: sit, walk, run", "100 Hz"):
        assert word in text
    columns = json.loads(invoke("inspect", artifact, "--json").output)["description"]["inputs"]["x"]
    assert [column["name"] for column in columns] == ["acc_x", "acc_y", "gyro_z"]
    low, high = columns[2]["range"]
    np.testing.assert_allclose([low, high], [WALK[:, 2].min(), WALK[:, 2].max()], rtol=1e-6)


def test_run_matches_columns_by_name(artifact: Path, tmp_path: Path) -> None:
    """Gyroscope first, time and further columns between: the same predictions, under names."""
    straight = write(tmp_path / "a.csv", "acc_x,acc_y,gyro_z", WALK)
    header = "gyro_z,Time (s),acc_y (m/s^2),temperature,acc_x"
    time = np.arange(120) / 100
    mixed = write(tmp_path / "b.csv", header, WALK[:, 2], time, WALK[:, 1], time, WALK[:, 0])
    for path in (straight, mixed):
        result = invoke("run", artifact, "-i", path, "-o", path.with_suffix(".out.csv"))
        assert result.exit_code == 0, result.stderr
        assert "warning" not in result.stderr
    lines = (tmp_path / "b.out.csv").read_text().splitlines()
    assert lines[0] == "label,sit,walk,run"
    np.testing.assert_array_equal(
        predictions(tmp_path / "a.out.csv"), predictions(tmp_path / "b.out.csv")
    )
    best = predictions(tmp_path / "b.out.csv").argmax(axis=1)
    assert [line.split(",")[0] for line in lines[1:]] == [["sit", "walk", "run"][k] for k in best]


def test_run_names_a_missing_column(artifact: Path, tmp_path: Path) -> None:
    """Three columns of other names are not taken for the model's."""
    path = write(tmp_path / "a.csv", "acc_x,acc_y,gyro_x", WALK)
    result = invoke("run", artifact, "-i", path, "-o", tmp_path / "out.csv")
    assert result.exit_code == 6
    assert "no column is named 'gyro_z'" in result.stderr
    result = invoke(
        *("run", artifact, "-i", path, "-o", tmp_path / "out.csv"),
        *("--columns", "acc_x,acc_y,gyro_x"),
    )
    assert result.exit_code == 0


def test_run_warns_of_units_ranges_and_rate(artifact: Path, tmp_path: Path) -> None:
    """On standard error, or in the summary of --json."""
    time = np.arange(120) / 50
    path = write(tmp_path / "a.csv", "t,acc_x,acc_y,gyro_z", time, WALK / [9.81, 9.81, 1])
    words = ("run", artifact, "-i", path, "-o", tmp_path / "out.csv")
    text = invoke(*words).stderr
    assert "warning: acc_x, acc_y stay within" in text
    assert "g instead of m/s^2?" in text
    assert "50 Hz; the model takes 100 Hz" in text
    warnings = json.loads(invoke(*words, "--json").output)["warnings"]
    assert len(warnings) == 2


def test_arrays_are_taken_as_they_are(artifact: Path, tmp_path: Path) -> None:
    """An array has no names; NPY out holds the output as the model gives it."""
    np.save(tmp_path / "a.npy", WALK.astype(np.float32))
    for name in ("out.npy", "out.npz", "out.ndjson"):
        result = invoke("run", artifact, "-i", tmp_path / "a.npy", "-o", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    assert np.load(tmp_path / "out.npy").reshape(120, -1).shape == (120, 3)
    with np.load(tmp_path / "out.npz") as archive:
        assert sorted(archive.files) == ["label", "run", "sit", "walk"]
    assert list(json.loads((tmp_path / "out.ndjson").read_text().splitlines()[0])) == [
        "label",
        "sit",
        "walk",
        "run",
    ]


def test_faults_of_the_options(artifact: Path, tmp_path: Path) -> None:
    """Exit codes and one clear message each."""
    model = artifact.with_suffix(".onnx")
    words = ["compile", model, "-o", tmp_path / "a.edgelstm", "--target", "reference"]
    for more, code, message in (
        (["--columns", "a,b"], 3, "2 names, the model takes 3 columns"),
        (["--labels", "a,b"], 3, "no output has 2 elements"),
        (["--labels", "p=a,b,c", "--labels", "a"], 2, "OUTPUT=A,B"),
        (["--description", tmp_path / "none.toml"], 3, "cannot read"),
    ):
        result = invoke(*words, *more)
        assert result.exit_code == code, result.stderr
        assert message in result.stderr
