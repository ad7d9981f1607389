"""The store: every prediction once, states resumed to the bit, whatever ends a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import OutputError
from edgelstm.io.address import Options, parse_address
from edgelstm.io.counters import Counters
from edgelstm.io.inlet import Inlet, Ready
from edgelstm.io.lane import RESERVED
from edgelstm.io.numbering import Numbering
from edgelstm.io.settings import QueuePolicy
from edgelstm.io.sinks.store import database, schema
from edgelstm.io.sinks.store.read import read_predictions
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.io.wire.base import Rows
from tests.live.harness import Live, Wire, csv_lines, samples, wait_until
from tests.system.launch import command_heeding_signals
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytestmark = needs_cc


def _recording(path: Path, values: np.ndarray) -> Path:
    path.write_bytes(b"x[0],x[1]\n" + csv_lines(values))
    return path


def _stored(path: Path, stream: str) -> np.ndarray:
    with contextlib.closing(open_store(path, is_new_allowed=False)) as connection:
        found = read_predictions(connection, stream)
    np.testing.assert_array_equal(found.sample, np.arange(len(found)) + found.sample[0])
    return found.outputs["y"]


def test_a_replay_is_stored_to_the_bit(tmp_path: Path) -> None:
    """Outputs, numbers and identity of every sample; inputs where they are asked for."""
    values = samples(5000)
    recording = _recording(tmp_path / "walk.csv", values)
    store = tmp_path / "ward.db"
    with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}?inputs=yes"]) as live:
        live.finish()
    with contextlib.closing(open_store(store)) as connection:
        found = read_predictions(connection, "walk.csv")
        (session,) = connection.execute("SELECT * FROM sessions").fetchall()
        (counters,) = connection.execute("SELECT counters FROM sessions").fetchone()
    np.testing.assert_array_equal(found.outputs["y"], leaky_expected(values))
    np.testing.assert_array_equal(found.inputs["x"], values)
    assert found.valid.all()
    assert session[6:8] == (0, 4999)
    assert json.loads(counters)["in"] == 5000


def test_a_replay_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    """A second run over the same recording and store adds nothing."""
    values = samples(300)
    recording = _recording(tmp_path / "walk.csv", values)
    store = tmp_path / "ward.db"
    for _ in range(2):
        with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"]) as live:
            live.finish()
    assert dict(live.counters().dropped) == {"done by an earlier run": 300}
    np.testing.assert_array_equal(_stored(store, "walk.csv"), leaky_expected(values))


def test_a_recording_that_grew_is_gone_on_with(tmp_path: Path) -> None:
    """The state is that behind the last sample: the predictions are those of one run."""
    values = samples(500)
    store = tmp_path / "ward.db"
    for count in (200, 500):
        recording = _recording(tmp_path / "walk.csv", values[:count])
        with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"]) as live:
            live.finish()
    np.testing.assert_array_equal(_stored(store, "walk.csv"), leaky_expected(values))


def test_what_predictions_are_worth_goes_on_too(tmp_path: Path) -> None:
    """Behind a resume, quality still knows of the samples before it that were not measured."""
    values = samples(120)
    lines = csv_lines(values).splitlines(keepends=True)
    lines[95] = b",1\n"
    stores = [tmp_path / "whole.db", tmp_path / "parts.db"]
    for store, counts in zip(stores, ((120,), (100, 120)), strict=True):
        for count in counts:
            (tmp_path / "walk.csv").write_bytes(b"x[0],x[1]\n" + b"".join(lines[:count]))
            inputs = [f"file:{tmp_path}/walk.csv"]
            with Live(leaky_native(), inputs, [f"store:{store}"]) as live:
                live.finish()
    found = []
    for store in stores:
        with contextlib.closing(open_store(store)) as connection:
            found.append(read_predictions(connection, "walk.csv").quality)
    np.testing.assert_array_equal(found[1], found[0])
    assert found[0][110] < 1


def _start(model: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*command_heeding_signals(), "run", str(model), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _rows(store: Path) -> int:
    if not store.exists():
        return 0
    with contextlib.closing(sqlite3.connect(store)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_three_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    """Kill -9 in the middle of a replay, three times: at the end it is as if nothing had been."""
    values = samples(6000)
    recording = _recording(tmp_path / "walk.csv", values)
    model, store = tmp_path / "leaky.edgelstm", tmp_path / "ward.db"
    leaky_native().save(model)
    arguments = ["-i", f"file:{recording}", "-o", f"store:{store}?every=50ms", "--rate", "4000"]
    for kill in range(3):
        process = _start(model, *arguments, "--realtime", "--quiet")
        before = 1000 * (kill + 1)
        wait_until(lambda before=before: _rows(store) > before, "rows")
        process.kill()
        process.communicate()
    assert 0 < _rows(store) < 6000
    process = _start(model, *arguments, "--quiet")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    np.testing.assert_array_equal(_stored(store, "walk.csv"), leaky_expected(values))


def test_sigterm_ends_a_live_run_well(tmp_path: Path) -> None:
    """Exit code 0: ending a run without an end is no failure; what came is stored."""
    model, store = tmp_path / "leaky.edgelstm", tmp_path / "ward.db"
    leaky_native().save(model)
    values = samples(50)
    process = _start(model, "-i", "stdin:", "-o", f"store:{store}")
    assert process.stdin is not None
    process.stdin.write(csv_lines(values).decode())
    process.stdin.flush()
    wait_until(lambda: _rows(store) == 50, "rows")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "50 in = 50 fed + 0 dropped" in errors
    np.testing.assert_array_equal(_stored(store, "stdin"), leaky_expected(values))


def test_sigterm_in_a_recording_is_an_interruption(tmp_path: Path) -> None:
    """It was not read to its end, which the exit code says; it is gone on with later."""
    model, store = tmp_path / "leaky.edgelstm", tmp_path / "ward.db"
    leaky_native().save(model)
    values = samples(1000)
    recording = _recording(tmp_path / "walk.csv", values)
    arguments = ["-i", f"file:{recording}", "-o", f"store:{store}", "--rate", "100"]
    process = _start(model, *arguments, "--realtime")
    wait_until(lambda: _rows(store) > 20, "rows")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    before = _rows(store)
    assert 20 < before < 1000
    process = _start(model, *arguments)
    _, errors = process.communicate(timeout=20)
    assert f"{before} done by an earlier run" in errors
    np.testing.assert_array_equal(_stored(store, "walk.csv"), leaky_expected(values))


def _serial_run(store: Path, values: np.ndarray, name: str) -> Live:
    wire = Wire()
    address = f"serial:{wire.path}?name={name}&start=keep"
    with Live(leaky_native(), [address], [f"store:{store}?every=20ms"]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(values))
        live.wait_for(len(values))
    wire.close()
    return live


def test_a_live_stream_goes_on_with_its_state_and_numbers(tmp_path: Path) -> None:
    """After a run that ended well: the next number, the old state, a flagged gap."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    store, values = tmp_path / "ward.db", samples(60)
    _serial_run(store, values[:30], "imu")
    live = _serial_run(store, values[30:], "imu")
    np.testing.assert_array_equal(_stored(store, "imu"), leaky_expected(values))
    np.testing.assert_array_equal(live.column("sequence"), np.arange(30, 60))
    assert live.column("flags").tolist() == [8, *[0] * 29]
    assert live.counters().noted["gaps by restarts"] == 1
    assert "resumed" in live.kinds()


def test_after_a_crash_numbers_that_may_have_been_used_are_left_out(tmp_path: Path) -> None:
    """A key never stands for two samples, also in sinks that got more than was committed."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    store, values = tmp_path / "ward.db", samples(20)
    _serial_run(store, values[:10], "imu")
    with contextlib.closing(open_store(store)) as connection:
        connection.execute("UPDATE checkpoints SET is_clean = 0")
    live = _serial_run(store, values[10:], "imu")
    assert live.column("sequence")[0] == 9 + RESERVED + 1
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values)[10:])


def test_a_state_that_is_too_old_is_not_gone_on_with(tmp_path: Path) -> None:
    """What a sensor says after an hour has nothing to do with the state before."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    store, values = tmp_path / "ward.db", samples(20)
    _serial_run(store, values[:10], "imu")
    with contextlib.closing(open_store(store)) as connection:
        connection.execute("UPDATE checkpoints SET time = time - 3600")
    live = _serial_run(store, values[10:], "imu")
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values[10:]))
    (event,) = [event for event in live.events if event.kind == "resumed"]
    assert "begins anew" in event.text


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store cannot grow predictions wait; with room again all are stored, once."""
    values = samples(3000)
    recording = _recording(tmp_path / "walk.csv", values)
    store = tmp_path / "ward.db"
    opened: list[sqlite3.Connection] = []

    def open_small(path: str) -> sqlite3.Connection:
        connection = schema.open_store(path)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 12}")
        opened.append(connection)
        return connection

    real_commit, failures = database.Database.commit, []

    def commit(self: database.Database, commit: database.Commit) -> int:
        try:
            return real_commit(self, commit)
        except sqlite3.OperationalError as exc:
            failures.append(str(exc))
            if len(failures) == 3:
                opened[0].execute("PRAGMA max_page_count = 1000000")
            raise

    monkeypatch.setattr(database, "open_store", open_small)
    monkeypatch.setattr(database.Database, "commit", commit)
    monkeypatch.setattr("edgelstm.io.sinks.store.sink._RETRY_S", 0.05)
    with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"]) as live:
        live.finish()
    assert failures[0] == "database or disk is full"
    np.testing.assert_array_equal(_stored(store, "walk.csv"), leaky_expected(values))


def test_an_output_that_is_stuck_is_told_and_so_is_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the run goes on, and not only at its end: somebody has to make room."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    wire, values, store = Wire(), samples(20), tmp_path / "ward.db"
    real_commit, is_full = database.Database.commit, threading.Event()

    def commit(self: database.Database, commit: database.Commit) -> int:
        if is_full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return real_commit(self, commit)

    monkeypatch.setattr(database.Database, "commit", commit)
    monkeypatch.setattr("edgelstm.io.sinks.store.sink._RETRY_S", 0.02)
    address = f"serial:{wire.path}?name=imu&start=keep"
    with Live(leaky_native(), [address], [f"store:{store}?every=20ms"]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(values[:10]))
        live.wait_for(10)
        is_full.set()
        wire.write(csv_lines(values[10:]))
        live.wait_for_event("output stuck")
        is_full.clear()
        live.wait_for_event("output again")
    wire.close()
    texts = [event.text for event in live.events if event.kind.startswith("output")]
    assert texts == [
        f"store:{store}: database or disk is full; trying again",
        f"store:{store}: goes on",
    ]
    np.testing.assert_array_equal(_stored(store, "imu"), leaky_expected(values))


def test_a_disk_that_stays_full_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much is not stored; what was committed is there."""
    recording = _recording(tmp_path / "walk.csv", samples(3000))
    store = tmp_path / "ward.db"

    def open_small(path: str) -> sqlite3.Connection:
        connection = schema.open_store(path)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 12}")
        return connection

    monkeypatch.setattr(database, "open_store", open_small)
    monkeypatch.setattr("edgelstm.io.sinks.store.sink._RETRY_S", 0.05)
    monkeypatch.setattr("edgelstm.io.sinks.store.sink._LAST_TRIES_S", 0.3)
    with (
        pytest.raises(OutputError, match="full; 3000 predictions are not stored: make room"),
        Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"]) as live,
    ):
        live.finish()


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["CREATE TABLE notes (text)"], "no store of edgelstm"),
        ([f"PRAGMA application_id = {schema.APPLICATION_ID}", "PRAGMA user_version = 99"], "99"),
    ],
)
def test_what_is_no_store_of_this_version_is_refused(
    tmp_path: Path, statements: Sequence[str], message: str
) -> None:
    """A foreign database stays as it is; so does one of a newer version."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    with pytest.raises(OutputError, match=message):
        open_store(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """One error, and the file is as it was."""
    path = tmp_path / "walk.csv"
    path.write_text("a,b\n" * 1000)
    with pytest.raises(OutputError, match="no store of edgelstm, and no database"):
        open_store(path)
    assert path.read_text() == "a,b\n" * 1000


def test_an_older_store_becomes_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts behind its version run once, in one transaction, and keep what it holds."""
    recording = _recording(tmp_path / "walk.csv", samples(10))
    store = tmp_path / "ward.db"
    with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"]) as live:
        live.finish()
    script = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    for _ in range(2):
        with contextlib.closing(open_store(store)) as connection:
            connection.execute("INSERT INTO annotations (text) VALUES ('well')")
    assert len(_stored(store, "walk.csv")) == 10


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a version is none."""
    path = tmp_path / "ward.db"
    open_store(path).close()
    script = "CREATE TABLE half (id);\nCREATE TABLE patients (id);\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(OutputError, match="patients already exists"):
        open_store(path)
    monkeypatch.undo()
    with contextlib.closing(open_store(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("half",) not in names


def test_a_commit_is_made_every_half_second(tmp_path: Path) -> None:
    """Rows and the checkpoint behind them become visible together."""
    recording = _recording(tmp_path / "walk.csv", samples(200))
    store = tmp_path / "ward.db"
    settings = {"rate_hz": 100.0, "is_realtime": True}
    with Live(leaky_native(), [f"file:{recording}"], [f"store:{store}"], **settings) as live:
        live.wait_for(1)
        seen = []
        end = time.monotonic() + 1.7
        while time.monotonic() < end:
            with contextlib.closing(sqlite3.connect(store)) as connection:
                seen.append(
                    connection.execute(
                        "SELECT (SELECT max(sample) FROM predictions), "
                        "(SELECT last_sample FROM checkpoints)"
                    ).fetchone()
                )
            time.sleep(0.02)
    assert all(rows == last for rows, last in seen)
    assert 3 <= len(set(seen)) <= 5


def test_a_terminal_shows_how_far_a_replay_is_and_how_long_it_takes(tmp_path: Path) -> None:
    """One line that is written over, with a share and the seconds that are left."""
    model = tmp_path / "leaky.edgelstm"
    leaky_native().save(model)
    recording = _recording(tmp_path / "walk.csv", samples(300))
    master, slave = os.openpty()
    arguments = ["-i", f"file:{recording}", "--rate", "100", "--realtime", "--speed", "2"]
    command = [*command_heeding_signals(), "run", str(model), *arguments]
    output = ["-o", f"file:{tmp_path}/out.ndjson"]
    with subprocess.Popen([*command, *output], stderr=slave, stdin=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(master, 4096):
                shown += data
        assert process.wait(20) == 0
    os.close(master)
    text = shown.decode()
    assert re.search(r"\rwalk\.csv: \d+ %, \d+ s left, \d+ in, \d+/s", text), text
    assert "walk.csv: 300 in = 300 fed + 0 dropped" in text


def test_a_pipe_that_is_faster_than_the_model_loses_nothing(tmp_path: Path) -> None:
    """Who writes into standard input waits: far more samples than a queue holds are all fed."""
    model, store = tmp_path / "leaky.edgelstm", tmp_path / "ward.db"
    leaky_native().save(model)
    values = samples(30_000)
    process = _start(model, "-i", "stdin:", "-o", f"store:{store}", "--queue", "500")
    _, errors = process.communicate(csv_lines(values).decode(), timeout=60)
    assert process.returncode == 0, errors
    assert "30000 in = 30000 fed + 0 dropped" in errors
    np.testing.assert_array_equal(_stored(store, "stdin"), leaky_expected(values))


def test_a_sensor_that_is_faster_than_the_model_loses_the_oldest() -> None:
    """Counted by reason, where its sender cannot wait; the newest are kept."""
    counters = Counters()

    async def fill() -> list[int]:
        inlet = Inlet(0, 100, QueuePolicy.DROP_OLDEST, Ready(), lambda stream: counters)
        numbers = Numbering(Options(parse_address("udp://:1"))).stream()
        for part in np.split(samples(4000).astype(np.float64), 80):
            await inlet.put(numbers.delivery(Rows(part), ("0", "1"), False, 0.0))
        found: list[int] = []
        while (delivery := inlet.get()) is not None:
            assert delivery.block is not None
            found += delivery.block.sequence.tolist()
        return found

    assert asyncio.run(fill()) == list(range(3900, 4000))
    assert counters.seen == 4000
    assert dict(counters.dropped) == {"queue full": 3900}
