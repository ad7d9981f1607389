"""`edgelstm run` as a process: files, pipes, live streams, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.system.launch import command_heeding_signals
from tests.unit.runtime.toy_models import double_call, leaky_expected, leaky_reference

COMMAND = [sys.executable, "-m", "edgelstm.cli"]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ROWS = "time,ax,ay\n0,1,2\n1,3,4\n2,5,6\n"
EXPECTED = leaky_expected(np.array([[1, 2], [3, 4], [5, 6]], np.float32))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "leaky.edgelstm"
    leaky_reference().save(path)
    return path


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, "run", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, env=ENVIRONMENT, check=False)


def parse(output: bytes) -> np.ndarray:
    rows = [line.split(",") for line in output.decode().splitlines()[1:]]
    return np.array(rows).astype(np.float32)


def test_files_in_files_out(artifact: Path, tmp_path: Path) -> None:
    """CSV in, CSV out, a summary in words on stderr or in JSON on stdout."""
    (tmp_path / "in.csv").write_text(ROWS)
    out = tmp_path / "out.csv"
    result = run(artifact, "--input", tmp_path / "in.csv", "--output", out, "--keep", "time")
    assert result.returncode == 0, result.stderr
    assert out.read_text().splitlines()[0] == "time,y[0],y[1]"
    np.testing.assert_array_equal(parse(out.read_bytes())[:, 1:], EXPECTED)
    assert b"3 predictions from 3 frames" in result.stderr
    assert b"x from ax, ay" in result.stderr
    assert result.stdout == b""
    result = run(artifact, "-i", tmp_path / "in.csv", "-o", out, "--columns", "ay,ax", "--json")
    summary: dict[str, Any] = json.loads(result.stdout)
    assert summary["columns"] == {"x": ["ay", "ax"]}
    assert (summary["frames"], summary["predictions"], summary["bad_frames"]) == (3, 3, 0)
    assert result.stderr == b""


def test_pipes(artifact: Path) -> None:
    """Standard input to standard output; the format is seen, the summary keeps out of the way."""
    result = run(artifact, stdin=ROWS.encode())
    np.testing.assert_array_equal(parse(result.stdout), EXPECTED)
    result = run(artifact, "--json", stdin=b"[1, 2]\n[3, 4]\n[5, 6]\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    np.testing.assert_array_equal(np.float32([line["y"] for line in lines]), EXPECTED)
    assert json.loads(result.stderr)["predictions"] == 3
    frames = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    with (Path(artifact).parent / "in.npy").open("w+b") as file:
        np.save(file, frames)
        file.seek(0)
        data = file.read()
    np.testing.assert_array_equal(parse(run(artifact, "-q", stdin=data).stdout), EXPECTED)


def test_a_live_stream_is_answered_at_once(artifact: Path) -> None:
    """Each row gets its prediction before the next row is sent."""
    with subprocess.Popen(
        [*COMMAND, "run", str(artifact), "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        header, *rows = ROWS.encode().splitlines(keepends=True)
        process.stdin.write(header + rows[0])
        process.stdin.flush()
        assert process.stdout.readline() == b"y[0],y[1]\n"
        for i, expected in enumerate(EXPECTED):
            line = process.stdout.readline().decode()
            np.testing.assert_array_equal(np.array(line.split(","), np.float32), expected)
            for row in rows[i + 1 : i + 2]:
                process.stdin.write(row)
                process.stdin.flush()
        process.stdin.close()
        assert process.wait(20) == 0


def test_control_c_ends_a_live_stream(artifact: Path) -> None:
    """Exit code 130, what was predicted is out, no traceback."""
    with subprocess.Popen(
        [*command_heeding_signals(), "run", str(artifact)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"ax,ay\n1,2\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        errors = process.stderr.read()
        assert b"interrupted" in errors
        assert b"Traceback" not in errors
        process.stdin.close()


def test_a_reader_that_leaves_is_no_error(artifact: Path, tmp_path: Path) -> None:
    """`edgelstm run ... | head -1` ends quietly."""
    rows = "ax,ay\n" + "1,2\n" * 60_000
    (tmp_path / "in.csv").write_text(rows)
    with subprocess.Popen(
        [*COMMAND, "run", str(artifact), "--quiet", "-i", str(tmp_path / "in.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize(
    ("policy", "code", "predictions"), [("raise", 6, 1), ("skip", 0, 2), ("hold", 0, 3)]
)
def test_bad_samples(artifact: Path, policy: str, code: int, predictions: int) -> None:
    """They are counted and reported, whatever happens to them."""
    result = run(artifact, "--on-bad-sample", policy, stdin=b"ax,ay\n1,2\nnan,4\n5,6\n")
    assert result.returncode == code
    assert len(parse(result.stdout)) == predictions
    assert f"1 bad frames ({policy})".encode() in result.stderr
    if policy == "raise":
        assert b"error: standard input:3: x[0] is nan" in result.stderr


MALFORMED = (
    b"ax,ay\n1,2\n3\n5,ERR\n\xff,1\n1_2,1\n\n,\n" + b'"1,2\n' + b"1,2,3\nnan,1\n\xd9\xa1,1\n7,8\n"
)
REASONS = {
    "cut line": 1,
    "text in a cell": 3,
    "bad byte": 1,
    "empty line": 1,
    "open quote": 1,
    "too many cells": 1,
    "missing or not finite": 2,
}


@pytest.mark.parametrize(("policy", "predictions"), [("skip", 2), ("hold", 12), ("reset", 2)])
@pytest.mark.parametrize("as_file", [False, True])
def test_every_malformed_line_falls_under_the_policy(
    artifact: Path, policy: str, predictions: int, as_file: bool, tmp_path: Path
) -> None:
    """Each is counted by its reason; frames in are fed or bad, of a file and of a live stream."""
    path = tmp_path / "in.csv"
    path.write_bytes(MALFORMED)
    source = ["-i", path] if as_file else []
    out = tmp_path / "out.csv"
    arguments = [artifact, *source, "-o", out, "--on-bad-sample", policy]
    result = run(*arguments, "--json", stdin=b"" if as_file else MALFORMED)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["bad_by_reason"] == REASONS
    assert (summary["frames"], summary["fed"], summary["bad_frames"]) == (12, 2, 10)
    assert summary["predictions"] == predictions
    assert len(out.read_text().splitlines()) == 1 + predictions
    text = run(*arguments, stdin=b"" if as_file else MALFORMED).stderr.decode()
    assert "10 bad frames" in text
    assert "1 cut line" in text


def test_malformed_json_falls_under_the_policy(artifact: Path) -> None:
    """The same for NDJSON."""
    lines = b'{"x": [1, 2]}\n{"x": [1\n{"x": [true, 1]}\n{"x": [[1, 2]]}\n{"x": [3, 4]}\n'
    result = run(artifact, "--on-bad-sample", "skip", "--json", stdin=lines)
    summary = json.loads(result.stderr)
    assert summary["bad_by_reason"] == {"not JSON": 1, "not a number": 1, "wrong shape": 1}
    assert len(result.stdout.splitlines()) == summary["fed"] == 2


def test_a_malformed_line_stops_by_default(artifact: Path) -> None:
    """What came before is predicted; the message says how to go on."""
    result = run(artifact, stdin=b"ax,ay\n1,2\n3\n5,6\n")
    assert result.returncode == 6
    assert len(parse(result.stdout)) == 1
    assert b"standard input:3: 1 cells, the header has 2; --on-bad-sample skip" in result.stderr


def test_closed_standard_streams_are_named(artifact: Path, tmp_path: Path) -> None:
    """`>&-` and `<&-` give one clear error each."""
    (tmp_path / "in.csv").write_text(ROWS)
    for redirection, message in [(">&-", b"standard output is closed"), ("<&-", b"standard input")]:
        source = f"-i {tmp_path / 'in.csv'}" if redirection == ">&-" else ""
        command = f"{' '.join(COMMAND)} run {artifact} {source} {redirection}"
        result = subprocess.run(
            ["bash", "-c", command], capture_output=True, env=ENVIRONMENT, check=False
        )
        assert result.returncode == 6
        assert message in result.stderr
        assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["-i", "missing.csv"], b"", 6, b"cannot read missing.csv"),
        ([], b"", 6, b"standard input is empty"),
        ([], b"a,b,c\n1,2,3\n", 6, b"--columns"),
        (["--columns", "a,z"], b"a,b\n1,2\n", 6, b"no column is named 'z'"),
        ([], b"ax,ay\n1,two\n", 6, b"standard input"),
        (["-o", "/nowhere/out.csv"], b"ax,ay\n1,2\n", 6, b"cannot write"),
        (["-o", "out.xls"], b"ax,ay\n1,2\n", 6, b"--output-format"),
        (["--keep", "z"], b"ax,ay\n1,2\n", 6, b"no column is named 'z'"),
        (["--on-bad-sample", "pray"], b"", 2, b"pray"),
    ],
)
def test_faults(
    artifact: Path, arguments: list[str], stdin: bytes, code: int, message: bytes
) -> None:
    """One clear error and the right exit code; as JSON where that is asked for."""
    result = run(artifact, *arguments, stdin=stdin)
    assert result.returncode == code
    assert message in result.stderr
    assert b"Traceback" not in result.stderr
    as_json = run(artifact, *arguments, "--json", stdin=stdin)
    assert as_json.returncode == code
    assert json.loads(as_json.stderr)["error"]["exit_code"] == code


def test_the_input_is_never_overwritten(artifact: Path, tmp_path: Path) -> None:
    """The same file as input and output is refused before it is opened."""
    path = tmp_path / "in.csv"
    path.write_text(ROWS)
    result = run(artifact, "-i", path, "-o", path)
    assert result.returncode == 6
    assert path.read_text() == ROWS


def test_call_mode(tmp_path: Path) -> None:
    """Whole arrays in, whole arrays out."""
    model = tmp_path / "double.edgelstm"
    double_call().save(model)
    x = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.savez(tmp_path / "in.npz", x=x)
    np.save(tmp_path / "in.npy", x)
    for source, target in [("in.npz", "out.npz"), ("in.npy", "out.npy")]:
        result = run(model, "-i", tmp_path / source, "-o", tmp_path / target, "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["outputs"] == {"y": [3, 2]}
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.float32(2 * x))
    with np.load(tmp_path / "out.npz") as got:
        np.testing.assert_array_equal(got["y"], np.float32(2 * x))
    np.save(tmp_path / "in.npy", x[:2])
    result = run(model, "-i", tmp_path / "in.npy", "-o", tmp_path / "out.npy")
    assert result.returncode == 6
    assert b"shape (3, 2), got (2, 2)" in result.stderr
