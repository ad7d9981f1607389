"""`edgelstm run` as a service: whatever ends it, what was written is whole and can be continued."""

from __future__ import annotations

import functools
import json
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.system.launch import command_heeding_signals
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FORMATS = ("csv", "ndjson", "npy", "npz")
LINES = ("csv", "ndjson")
MANY = 100_000
SEVERAL = 40_000
FEW = 20_000
OLD = b"the user's own\n"
STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def array(rows: Any) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 2)


@functools.cache
def frames(count: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, 2)).astype(np.float32)


@functools.cache
def expected(count: int) -> np.ndarray:
    return leaky_expected(frames(count))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with an artifact and two recordings."""
    leaky_reference().save(tmp_path / "leaky.edgelstm")
    np.save(tmp_path / "many.npy", frames(MANY))
    np.save(tmp_path / "several.npy", frames(SEVERAL))
    np.save(tmp_path / "few.npy", frames(FEW))
    return tmp_path


def start(
    desk: Path, *words: object, hangup: str = "SIG_DFL", **options: Any
) -> subprocess.Popen[bytes]:
    command = [
        *command_heeding_signals(hangup),
        "run",
        str(desk / "leaky.edgelstm"),
        *map(str, words),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT, **options)


def run(desk: Path, *words: object, **options: Any) -> tuple[int, str]:
    with start(desk, *words, **options) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        code = process.wait(60)
    assert "Traceback" not in said
    return code, said


def read(path: Path) -> np.ndarray:
    """The predictions of a file, which has to be whole."""
    if path.suffix == ".npy":
        return array(np.load(path))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return array(arrays["y"])
    text = path.read_bytes()
    assert text.endswith(b"\n")
    if path.suffix == ".csv":
        head, *rows = text.splitlines()
        assert head == b"y[0],y[1]"
        return np.array([row.split(b",") for row in rows]).astype(np.float32).reshape(-1, 2)
    return array([json.loads(line)["y"] for line in text.splitlines()])


def wait_for_work(desk: Path, output: Path, more: int = 10_000) -> None:
    """Until predictions stand in a file of lines; arrays show nothing before their end."""
    state = desk / "state.json"
    saved = state.stat().st_mtime_ns if state.exists() else None
    size = output.stat().st_size if output.exists() else 0
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        if output.suffix in (".csv", ".ndjson"):
            if output.exists() and output.stat().st_size >= size + more:
                return
        elif state.exists() and state.stat().st_mtime_ns != saved:
            time.sleep(0.1)
            return
        time.sleep(0.01)


def told_predictions(said: str) -> int:
    (line,) = (line for line in said.splitlines() if " predictions from " in line)
    return int(line.split(" predictions")[0])


def hidden(desk: Path) -> list[str]:
    return [name for name in os.listdir(desk) if name.startswith(".")]


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("form", FORMATS)
def test_signals(form: str, number: signal.Signals, desk: Path) -> None:
    """Soon after the signal all that was predicted is in a whole file, and the summary is true."""
    output = desk / f"out.{form}"
    state = ("--state-file", desk / "state.json")
    with start(desk, "-i", desk / "many.npy", "-o", output, *state) as process:
        assert process.stderr is not None
        wait_for_work(desk, output)
        process.send_signal(number)
        said = process.stderr.read().decode()
        assert process.wait(10) == STOPS[number]
    got = read(output)
    assert 0 < len(got) < MANY
    np.testing.assert_array_equal(got, expected(MANY)[: len(got)])
    assert told_predictions(said) == len(got)
    assert ("interrupted" if number == signal.SIGINT else "terminated") in said
    assert "Traceback" not in said
    assert hidden(desk) == []


def test_nohup(desk: Path) -> None:
    """A run told to outlive its terminal does."""
    output = desk / "out.csv"
    state = ("--state-file", desk / "state.json")
    with start(desk, "-i", desk / "many.npy", "-o", output, *state, hangup="SIG_IGN") as process:
        assert process.stderr is not None
        wait_for_work(desk, output)
        process.send_signal(signal.SIGHUP)
        said = process.stderr.read().decode()
        assert process.wait(60) == 0, said
    np.testing.assert_array_equal(read(output), expected(MANY))


@pytest.mark.parametrize("form", FORMATS)
def test_kill(form: str, desk: Path) -> None:
    """Lines are whole; arrays leave the old file as it was."""
    output = desk / f"out.{form}"
    output.write_bytes(OLD)
    state = ("--state-file", desk / "state.json")
    with start(desk, "-i", desk / "many.npy", "-o", output, *state) as process:
        wait_for_work(desk, output)
        process.kill()
    if form in LINES:
        got = read(output)
        assert 0 < len(got) < MANY
        np.testing.assert_array_equal(got, expected(MANY)[: len(got)])
    else:
        assert output.read_bytes() == OLD
        assert not any(name.endswith(form) for name in hidden(desk))


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_medium(form: str, desk: Path) -> None:
    """One clear error; the last line is whole, and no half array takes the name of a file."""
    output = desk / f"out.{form}"
    output.write_bytes(OLD)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_003, 100_003))

    code, said = run(desk, "-i", desk / "few.npy", "-o", output, preexec_fn=limit)
    assert code == 6
    assert f"cannot write {output}: File too large" in said
    assert hidden(desk) == []
    if form in LINES:
        got = read(output)
        assert 1000 < len(got) < FEW
        np.testing.assert_array_equal(got, expected(FEW)[: len(got)])
        assert told_predictions(said) == len(got)
    else:
        assert output.read_bytes() == OLD
        assert told_predictions(said) == 0
    code, said = run(desk, "-i", desk / "few.npy", "-o", "/dev/full", "--output-format", form)
    assert code == 6
    assert "No space left on device; make room" in said


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk(form: str, desk: Path) -> None:
    """The same on a real file system without room."""
    with small_disk(desk / "disk") as disk:
        output = disk / f"out.{form}"
        code, said = run(desk, "-i", desk / "few.npy", "-o", output)
        assert code == 6
        assert "No space left on device; make room" in said
        if form in LINES:
            np.testing.assert_array_equal(read(output), expected(FEW)[: told_predictions(said)])
        assert os.listdir(disk) == ([output.name] if form in LINES else [])


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_that_leaves(form: str, desk: Path) -> None:
    """No error, and the summary tells what was handed over."""
    words = ("-i", desk / "many.npy", "--output-format", form)
    if form not in LINES:
        words = ("-i", desk / "few.npy", "--output-format", form)
    with start(desk, *words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if form in LINES:
            taken = process.stdout.read(50_000).count(b"\n")
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert "rror" not in said
    if form in LINES:
        assert taken - 1 <= told_predictions(said) < MANY
    else:
        assert told_predictions(said) == 0


def test_a_stuck_reader_does_not_hold_up_the_end(desk: Path) -> None:
    """A pipe that is full and never read is left, and what is in it is whole lines."""
    with start(desk, "-i", desk / "many.npy", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], "it writes nothing"
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        text = process.stdout.read()
    assert text.endswith(b"\n")
    got = np.array([row.split(b",") for row in text.splitlines()[1:]]).astype(np.float32)
    np.testing.assert_array_equal(got, expected(MANY)[: len(got)])


def test_nothing_is_written_before_the_session_stands(desk: Path) -> None:
    """A recording that does not fit, or a broken option, leaves the old output as it was."""
    output = desk / "out.csv"
    output.write_bytes(OLD)
    (desk / "in.csv").write_text("a,b,c\n1,2,3\n")
    (desk / "bad.csv").write_text("a,b\nnan,2\n")
    for words in (["in.csv"], ["missing.csv"], ["bad.csv"], ["few.npy", "--no-header"]):
        code, _ = run(desk, "-i", desk / words[0], *words[1:], "-o", output)
        assert code == 6
        assert output.read_bytes() == OLD
    assert hidden(desk) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("form", FORMATS)
def test_resume(form: str, number: signal.Signals, desk: Path) -> None:
    """Ended anywhere, as often as you like, the output is the one of a single run, bit for bit."""
    output, state = desk / f"out.{form}", desk / "state.json"
    words = ("-i", desk / "several.npy", "-o", output, "--state-file", state, "--state-every", 0.05)
    lasts = []
    for _ in range(2):
        with start(desk, *words, "--resume") as process:
            wait_for_work(desk, output, 50_000)
            process.send_signal(number)
            process.wait(10)
        lasts.append(json.loads(state.read_text())["last_frame"])
    if form in LINES or number == signal.SIGTERM:
        assert 0 < lasts[0] < lasts[1] < SEVERAL
    else:
        assert lasts == [0, 0]
    code, said = run(desk, *words, "--resume", "--json")
    assert code == 0, said
    np.testing.assert_array_equal(read(output), expected(SEVERAL))
    assert json.loads(state.read_text())["last_frame"] == SEVERAL
    code, said = run(desk, *words, "--resume")
    assert code == 0
    assert told_predictions(said) == 0
    assert len(read(output)) == SEVERAL
    assert hidden(desk) == [] or number == signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_live_stream_resumes(number: signal.Signals, desk: Path) -> None:
    """Its frames do not come again: the next ones are fed, and nothing that was written goes."""
    output, state = desk / "out.csv", desk / "state.json"
    words = ("-o", output, "--state-file", state, "--state-every", 0, "--resume")
    done = 0
    for count in (5, 3):
        with start(desk, *words, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            rows = "".join(f"{a!r},{b!r}\n" for a, b in frames(8)[done : done + count].tolist())
            process.stdin.write(b"ax,ay\n" + rows.encode())
            process.stdin.flush()
            done += count
            limit = time.monotonic() + 30
            while time.monotonic() < limit and last_frame(state) != done:
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(10)
            process.stdin.close()
    np.testing.assert_array_equal(read(output), expected(8))
    before = output.read_bytes()
    with output.open("ab") as file:
        file.write(b"1.5,2.5\n0.1")  # of a frame behind the last state, and half a line
    with start(desk, *words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"ax,ay\n1,2\n")
        process.stdin.close()
        assert process.wait(60) == 0
    *lines, last = output.read_bytes().splitlines(keepends=True)
    assert b"".join(lines) == before + b"1.5,2.5\n"
    assert last.endswith(b"\n")


def last_frame(state: Path) -> int:
    return int(json.loads(state.read_text())["last_frame"]) if state.exists() else -1


def test_held_samples_are_held_across_the_end(desk: Path) -> None:
    """The last good frame is part of the state."""
    (desk / "a.csv").write_text("ax,ay\n1,2\n3,4\n")
    (desk / "b.csv").write_text("ax,ay\n1,2\n3,4\nnan,5\n6,7\n")
    words = ("--state-file", desk / "state.json", "--on-bad-sample", "hold", "-o", desk / "out.csv")
    assert run(desk, "-i", desk / "a.csv", *words)[0] == 0
    assert run(desk, "-i", desk / "b.csv", *words, "--resume")[0] == 0
    held = array([[1, 2], [3, 4], [3, 4], [6, 7]])
    np.testing.assert_array_equal(read(desk / "out.csv"), leaky_expected(held))


def test_what_does_not_belong_together_is_refused(desk: Path) -> None:
    """Another artifact, another output, another recording: each by name, and nothing is changed."""
    state, output = desk / "state.json", desk / "out.csv"
    words = ("-o", output, "--state-file", state)
    (desk / "in.csv").write_text("ax,ay\n1,2\n3,4\n")
    (desk / "short.csv").write_text("ax,ay\n1,2\n")
    assert run(desk, "-i", desk / "in.csv", *words)[0] == 0
    before = output.read_bytes(), state.read_bytes()

    def refuse(reason: str, *given: object, where: Path = desk) -> None:
        code, said = run(where, *given)
        assert code in (2, 6)
        assert reason in said
        assert (output.read_bytes(), state.read_bytes()) == before

    other = desk / "other"
    other.mkdir()
    leaky_reference(source={"sha256": "0" * 64}).save(other / "leaky.edgelstm")
    refuse("is the state of", "-i", desk / "in.csv", *words, "--resume", where=other)
    refuse("has 1 frames, the state file tells of 2", "-i", desk / "short.csv", *words, "--resume")
    foreign = desk / "foreign.csv"
    foreign.write_bytes(b"y[0],y[1]\n" + OLD * 20)
    given: tuple[object, ...]
    given = ("-i", desk / "in.csv", "-o", foreign, "--state-file", state, "--resume")
    refuse("does not hold the 2 predictions", *given)
    refuse("has other columns", "-i", desk / "in.csv", *words, "--keep", "ax", "--resume")
    given = ("-i", desk / "in.csv", "-o", output, "--state-file", desk / "none.json", "--resume")
    refuse("does not tell how far it goes", *given)
    for name in ("in.csv", "leaky.edgelstm", "out.csv", "foreign.csv"):
        given = ("-i", desk / "in.csv", "-o", output, "--state-file", desk / name)
        content = (desk / name).read_bytes()
        refuse("name another file", *given)
        assert (desk / name).read_bytes() == content
    refuse("are for --state-file", "-i", desk / "in.csv", "-o", output, "--resume")


def test_an_output_that_was_moved_away_begins_anew(desk: Path) -> None:
    """Logs are rotated: what comes next goes into a new file, with a header."""
    state, output = desk / "state.json", desk / "out.csv"
    words = ("-o", output, "--state-file", state, "--resume")
    (desk / "in.csv").write_text("ax,ay\n1,2\n3,4\n")
    assert run(desk, "-i", desk / "in.csv", *words)[0] == 0
    output.rename(desk / "old.csv")
    (desk / "in.csv").write_text("ax,ay\n1,2\n3,4\n5,6\n")
    assert run(desk, "-i", desk / "in.csv", *words)[0] == 0
    both = np.concatenate([read(desk / "old.csv"), read(output)])
    np.testing.assert_array_equal(both, leaky_expected(array([[1, 2], [3, 4], [5, 6]])))
    (desk / "in.csv").write_text("ax,ay\n1,2\n3,4\n5,6\n7,8\n")
    assert run(desk, "-i", desk / "in.csv", *words)[0] == 0
    assert len(read(output)) == 2


def test_appending_to_standard_output(desk: Path) -> None:
    """`>> out.csv` gets one header, and a full medium never cuts what was there before."""
    state = desk / "state.json"
    (desk / "in.csv").write_text("ax,ay\n1,2\n")
    for more in ("", "3,4\n"):
        with (desk / "in.csv").open("a") as file:
            file.write(more)
        with (desk / "out.csv").open("ab") as stdout:
            words = ("-i", desk / "in.csv", "--state-file", state, "--resume")
            assert run(desk, *words, stdout=stdout)[0] == 0
    np.testing.assert_array_equal(read(desk / "out.csv"), leaky_expected(array([[1, 2], [3, 4]])))
    before = (desk / "out.csv").read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_003, 50_003))

    with (desk / "out.csv").open("ab") as stdout:
        code, said = run(desk, "-i", desk / "few.npy", stdout=stdout, preexec_fn=limit)
    assert code == 6
    text = (desk / "out.csv").read_bytes()
    assert text.startswith(before)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == before.count(b"\n") + 1 + told_predictions(said)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_standard_streams(closed: int, desk: Path) -> None:
    """A stream that is needed and closed is an error in words; one that is not is no matter."""
    (desk / "in.csv").write_text("ax,ay\n1,2\n")

    def close() -> None:
        os.close(closed)

    code, said = run(desk, "-i", desk / "in.csv", "-o", desk / "out.csv", preexec_fn=close)
    assert code == 0
    np.testing.assert_array_equal(read(desk / "out.csv"), leaky_expected(array([[1, 2]])))
    code, said = run(desk, preexec_fn=close, stdin=subprocess.DEVNULL)
    assert code == 6
    if closed < 2:
        assert ("standard input is closed", "standard output is closed")[closed] in said
