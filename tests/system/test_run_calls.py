"""`edgelstm run` with an artifact that was compiled for calls: inputs, outputs and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import double_call, leaky_reference

X = np.arange(6, dtype=np.float32).reshape(3, 2)
MANY = np.arange(60, dtype=np.float32).reshape(10, 3, 2)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "double.edgelstm"
    double_call().save(path)
    return path


def save(folder: Path, name: str, array: np.ndarray) -> Path:
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, x=array)
    elif path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".csv":
        np.savetxt(path, array, delimiter=",", header="a,b", comments="", fmt="%g")
    else:
        whole = array.reshape(-1, 3, 2)
        path.write_text("".join(json.dumps({"x": item.tolist()}) + "\n" for item in whole))
    return path


def read(path: Path) -> np.ndarray:
    """Results as arrays; rows and lines are one call each."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return np.asarray(arrays["y"])
    lines = path.read_text().splitlines()
    if path.suffix == ".csv":
        assert lines[0].split('"')[1::2] == [f"y[{i},{j}]" for i in range(3) for j in range(2)]
        rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
        return np.array(rows, np.float32).reshape(-1, 3, 2)
    return np.array([json.loads(line)["y"] for line in lines], np.float32)


@pytest.mark.parametrize("into", ["csv", "ndjson", "npy", "npz"])
@pytest.mark.parametrize("out_of", ["csv", "ndjson", "npy", "npz"])
def test_one_call(out_of: str, into: str, artifact: Path, tmp_path: Path) -> None:
    """Arrays in the model's own shape, or the rows of a table; results in every format."""
    output = tmp_path / f"out.{into}"
    source = save(tmp_path, f"in.{out_of}", X)
    result = invoke("run", artifact, "-i", source, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "1 call\n" in result.stderr
    got = read(output)
    is_stacked = into in ("csv", "ndjson") or out_of == "ndjson"
    np.testing.assert_array_equal(got, 2 * X[None] if is_stacked else 2 * X)


@pytest.mark.parametrize("into", ["csv", "ndjson", "npy", "npz"])
@pytest.mark.parametrize("out_of", ["ndjson", "npy", "npz"])
def test_ten_calls(out_of: str, into: str, artifact: Path, tmp_path: Path) -> None:
    """Along a further first axis, or a line each; results are stacked."""
    output = tmp_path / f"out.{into}"
    source = save(tmp_path, f"in.{out_of}", MANY)
    result = invoke("run", artifact, "-i", source, "-o", output, "--json")
    assert result.exit_code == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    assert summary["calls"] == 10
    assert summary["outputs"] == {"y": [10, 3, 2]}
    np.testing.assert_array_equal(read(output), 2 * MANY)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (3, 1, 2), (10, 3, 2), (10, 1, 3, 2)])
def test_axes_of_one(shape: tuple[int, ...], artifact: Path, tmp_path: Path) -> None:
    """They may stand anywhere: the numbers are in the same order."""
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    source = save(tmp_path, "in.npy", array)
    result = invoke("run", artifact, "-i", source, "-o", tmp_path / "out.npy")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(read(tmp_path / "out.npy").reshape(-1), 2 * array.reshape(-1))


def test_columns_of_a_table(artifact: Path, tmp_path: Path) -> None:
    """They are chosen as for streams."""
    (tmp_path / "in.csv").write_text("time,b,a\n" + "".join(f"{i},{i},{-i}\n" for i in range(3)))
    words = ("-i", tmp_path / "in.csv", "-o", tmp_path / "out.npy")
    assert invoke("run", artifact, *words, "--columns", "a,b").exit_code == 0
    np.testing.assert_array_equal(
        read(tmp_path / "out.npy"), 2 * np.array([[-i, i] for i in range(3)])
    )
    (tmp_path / "in.csv").write_text("1,2\n3,4\n5,6\n")
    assert invoke("run", artifact, *words, "--no-header").exit_code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), 2 * np.arange(1, 7).reshape(3, 2))


@pytest.mark.parametrize(
    ("name", "array", "words", "reason"),
    [
        ("in.csv", X[:2], [], "has 2 rows, and input 'x' of shape (3, 2) takes 3"),
        ("in.csv", np.arange(12.0).reshape(6, 2), [], "has 6 rows"),
        ("in.npy", X[:2], [], "input 'x' has shape (3, 2), got (2, 2)"),
        ("in.npy", X.T, [], "got (2, 3); several calls come as (n, 3, 2)"),
        ("in.npy", X * np.nan, [], "is nan"),
        ("in.npz", np.where(MANY == 30, np.nan, MANY), [], "in.npz: call 5: input 'x'"),
        ("in.npy", X, ["--columns", "0,1"], "--columns is for CSV"),
        ("in.npz", X, ["--no-header"], "--no-header is for CSV"),
        ("in.npy", X, ["-o", "out.xls"], "--output-format"),
    ],
)
def test_refusals(
    name: str, array: np.ndarray, words: list[str], reason: str, artifact: Path, tmp_path: Path
) -> None:
    """One sentence that says what there is and what is wanted; the old output stays."""
    (tmp_path / "out.csv").write_text("old")
    output = [] if "-o" in words else ["-o", tmp_path / "out.csv"]
    result = invoke("run", artifact, "-i", save(tmp_path, name, array), *output, *words)
    assert result.exit_code == 6
    assert reason in result.stderr
    assert "pickle" not in result.stderr
    if "call 5" not in reason:
        assert (tmp_path / "out.csv").read_text() == "old"
    else:
        np.testing.assert_array_equal(read(tmp_path / "out.csv"), 2 * MANY[:5])


@pytest.mark.parametrize(
    "words",
    [
        ["--keep", "a"],
        ["--on-bad-sample", "skip"],
        ["--on-bad-sample", "raise"],
        ["--state-file", "s.json"],
        ["--state-file", "s.json", "--resume"],
    ],
)
def test_options_of_streams_are_refused(words: list[str], artifact: Path, tmp_path: Path) -> None:
    """None is ignored; the error names it."""
    source = save(tmp_path, "in.npy", X)
    result = invoke("run", artifact, "-i", source, "-o", tmp_path / "out.npy", *words)
    assert result.exit_code == 2
    assert f"{words[0]} is for streams" in " ".join(result.stderr.split())
    assert not (tmp_path / "out.npy").exists()


def test_options_that_do_not_apply_to_a_stream(tmp_path: Path) -> None:
    """The same for streams: a header of an array, a state without a file."""
    model = tmp_path / "leaky.edgelstm"
    leaky_reference().save(model)
    source = save(tmp_path, "in.npy", X)
    result = invoke("run", model, "-i", source, "-o", tmp_path / "out.npy", "--no-header")
    assert result.exit_code == 6
    assert "--no-header is for CSV" in result.stderr
    for words in (["--resume"], ["--state-every", "5"]):
        result = invoke("run", model, "-i", source, "-o", tmp_path / "out.npy", *words)
        assert result.exit_code == 2
        assert "are for --state-file FILE" in result.stderr


def test_arrays_in_the_models_own_shape_feed_a_stream(tmp_path: Path) -> None:
    """`(T, 1, F)` gives what `(T, F)` gives."""
    model = tmp_path / "leaky.edgelstm"
    leaky_reference().save(model)
    got = []
    for i, array in enumerate((X, X[:, None], X[None])):
        source = save(tmp_path, f"in{i}.npy", array)
        result = invoke("run", model, "-i", source, "-o", tmp_path / "out.npy")
        assert result.exit_code == 0, result.stderr
        got.append(read(tmp_path / "out.npy"))
    np.testing.assert_array_equal(got[1], got[0])
    np.testing.assert_array_equal(got[2], got[0])
