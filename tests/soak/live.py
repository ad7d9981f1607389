"""A day of live samples in minutes, with everything that goes wrong: `make soak-live`.

A recording of 8,640,000 samples (24 hours at 100 Hz) with gaps, duplicates, disorder, NaN and
garbage goes through `edgelstm run` into a store, which is killed three times with SIGKILL and has
no room for a while. At the end the store holds what an undisturbed run stores, to the bit, and its
state is the same. Then a sensor that numbers its samples sends over TCP, is disconnected again and
again, the run is killed three times and the store has no room for a while: nothing that was
committed is gone or changed, no key is there twice, and one session that is fed what is stored says
the same, to the bit: the state went on with each run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import socket
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import edgelstm
from tests.live.harness import free_port
from tests.soak.runs import Run, Watch, last_of
from tests.unit.runtime.toy_models import leaky_native

DAY = 8_640_000
_CHUNK = 100_000
_AHEAD = 10_000

_START_S = 120.0
_REPLAY_S = 200e-6
_LIVE_S = 1e-3
"""Seconds of the processor: for the start of a run, and a sample; some ten times what they take."""


def write_recording(path: Path, count: int, rng: np.random.Generator) -> None:
    """A recording with all that a sensor does wrong."""
    with path.open("w") as file:
        file.write("time_s,x[0],x[1]\n")
        for start in range(0, count, _CHUNK):
            n = min(_CHUNK, count - start)
            times = np.arange(start, start + n) / 100
            times += 0.001 * rng.standard_normal(n)
            values = rng.standard_normal((n, 2)).round(4)
            values[rng.random(n) < 1e-4, 0] = np.nan
            lines = [
                f"{t:.4f},{a},{b}\n"
                for t, (a, b) in zip(times.tolist(), values.tolist(), strict=True)
            ]
            for at in rng.integers(10, n - 100, 8).tolist():
                kind = rng.integers(5)
                if kind == 0:
                    lines[at : at + int(rng.integers(2, 60))] = [""] * int(rng.integers(2, 60))
                elif kind == 1:
                    lines[at] *= 2
                elif kind == 2:
                    lines[at], lines[at + 1] = lines[at + 1], lines[at]
                elif kind == 3:
                    lines[at] = "17.5,\x00garbage\n"
                else:
                    lines[at] = lines[at][: len(lines[at]) // 2] + "\n"
            file.writelines(lines)


def compare(one: Path, other: Path) -> int:
    """Two stores hold the same predictions and the same state; how many."""
    columns = "sample, stamp, flags, valid, quality, label, outputs"
    with contextlib.closing(sqlite3.connect(one)) as connection:
        connection.execute("ATTACH ? AS other", (str(other),))
        query = f"SELECT {columns} FROM {{}} ORDER BY sample"
        rows = connection.execute(query.format("main.predictions"))
        count = 0
        for row, expected in zip(
            rows, connection.execute(query.format("other.predictions")), strict=True
        ):
            assert row == expected, (row, expected)
            count += 1
        states = [
            connection.execute(f"SELECT last_sample, snapshot FROM {name}.checkpoints").fetchall()
            for name in ("main", "other")
        ]
        assert states[0] == states[1], "another state"
    return count


def soak_replay(folder: Path, model: Path, count: int, dice: random.Random) -> None:
    """See the module; the first half."""
    recording, store, whole = folder / "day.csv", folder / "soak.db", folder / "whole.db"
    write_recording(recording, count, np.random.default_rng(dice.randrange(1 << 32)))
    print(f"recording: {recording.stat().st_size >> 20} MB", flush=True)
    arguments = ("-i", f"file:{recording}?name=day", "--rate", "100", "--on-gap", "hold")
    arguments = (*arguments, "--reorder", "0.05")
    budget_s = _REPLAY_S * count + _START_S
    watch = Watch()
    undisturbed = Run(model, arguments, whole, budget_s, watch)
    print(f"undisturbed:\n{undisturbed.finish()}", flush=True)
    watch.expect_flat()
    watch = Watch()
    for kill, share in enumerate(_shares(dice)):
        run = Run(model, arguments, store, budget_s, watch)
        if kill == 1:
            run.wait_for_sample(int((share - 0.1) * count))
            run.fill_disk()
        run.wait_for_sample(int(share * count))
        run.kill()
        print(f"kill {kill + 1}: up to sample {last_of(store)} of {count}", flush=True)
    Run(model, arguments, store, budget_s, watch).finish()
    print(f"equal to the bit: {compare(store, whole)} predictions and the state", flush=True)


def _shares(dice: random.Random) -> list[float]:
    """When to kill: shares of the samples, which ascend."""
    return [dice.uniform(low, low + 0.1) for low in (0.15, 0.4, 0.65)]


class Sender(threading.Thread):
    """A sensor that numbers its samples and loses its connection again and again.

    It is never far ahead of the store, whatever the buffers between them hold: what was sent to a
    run that is killed is gone, and the next one shall have its share.
    """

    def __init__(self, port: int, store: Path, count: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._store = store
        self._count = count
        self._dice = dice
        self._stored = -1
        self.disconnects = 0

    def run(self) -> None:
        """Send all; who does not listen just now is tried again."""
        at = gone = 0
        while at < self._count:
            try:
                link = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                time.sleep(0.05)
                continue
            is_broken = True
            with link, contextlib.suppress(OSError):
                until = min(at + self._dice.randint(2_000, 20_000), self._count)
                while at < until:
                    self._wait_for_store(link, at, gone)
                    end = min(at + 100, until)
                    lines = [f"{n},{n % 97},{n % 89}\n" for n in range(at, end)]
                    if self._dice.random() < 0.05:
                        lines.insert(
                            50, self._dice.choice(["\xff\xfe", "1,2", "x" * 99_999]) + "\n"
                        )
                    link.sendall("".join(lines).encode("latin-1"))
                    at = end
                    time.sleep(0.0005)
                self.disconnects += 1
                is_broken = False
            gone = at if is_broken else gone

    def _wait_for_store(self, link: socket.socket, at: int, gone: int) -> None:
        """Wait until the store has all but the newest samples, or those up to `gone` are gone.

        Raises:
            OSError: nobody is there any more.
        """
        while at - max(gone, self._stored) > _AHEAD:
            self._stored = last_of(self._store)
            link.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                if not link.recv(1):
                    raise ConnectionResetError
            link.settimeout(None)


def stored(store: Path, last: int = 1 << 62) -> list[tuple[int, bytes]]:
    """The predictions up to a sample: number and outputs."""
    query = "SELECT sample, outputs FROM predictions WHERE sample <= ? ORDER BY sample"
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(query, (last,)).fetchall()


def digest(store: Path, last: int) -> tuple[int, str]:
    """How many predictions there are up to a sample, and what they are."""
    rows = stored(store, last)
    return len(rows), hashlib.sha256(b"".join(b"%d,%b" % row for row in rows)).hexdigest()


def expect_one_session(model: Path, store: Path) -> int:
    """One session that is fed the samples of the store says what is stored; how many."""
    rows = stored(store)
    numbers = np.array([sample for sample, _ in rows])
    assert (np.diff(numbers) > 0).all(), "a key is there twice"
    frames = np.stack([numbers % 97, numbers % 89], axis=1).astype(np.float32)
    with edgelstm.load(model).session() as session:
        expected = np.concatenate(
            [np.asarray(session.run(part)) for part in np.array_split(frames, 100)]
        )
    found = np.frombuffer(b"".join(outputs for _, outputs in rows), np.float32)
    differs = np.flatnonzero((found.reshape(expected.shape) != expected).any(axis=1))
    assert not len(differs), f"another state from sample {numbers[differs[0]]} on"
    return len(rows)


def soak_live(folder: Path, model: Path, count: int, dice: random.Random) -> None:
    """See the module; the second half."""
    store, port = folder / "live.db", free_port()
    config = folder / "live.toml"
    # However long the machine lets the next run wait, it goes on with the state.
    config.write_text(
        f'inputs = ["tcp://127.0.0.1:{port}?listen=yes&name=imu&columns=seq,a,b"]\n'
        'columns = ["a", "b"]\non-bad-sample = "skip"\nrestart-gap = 86400.0\n'
    )
    sender, watch = Sender(port, store, count, dice), Watch()
    sender.start()
    committed: list[tuple[int, tuple[int, str]]] = []

    def start() -> Run:
        return Run(model, ("--config", str(config)), store, _LIVE_S * count + _START_S, watch)

    run = start()
    for kill, share in enumerate(_shares(dice)):
        if kill == 1:
            run.wait_for_sample(int((share - 0.1) * count))
            run.fill_disk()
        run.wait_for_sample(int(share * count))
        last = last_of(store)
        committed.append((last, digest(store, last)))
        run.kill()
        print(f"kill {kill + 1}: up to sample {last} of {count}", flush=True)
        run = start()
    assert run.wait_until(lambda: not sender.is_alive()), run.said
    # Behind the last sample that was sent comes nothing more: its connection has ended.
    run.wait_for_sample(count - 1)
    assert run.wait_until(lambda: "resumed" in run.said), run.said
    said = run.end()
    watch.expect_flat()
    for last, before in committed:
        assert digest(store, last) == before, f"what was committed up to {last} has changed"
    total = expect_one_session(model, store)
    with contextlib.closing(sqlite3.connect(store)) as connection:
        (tables,) = connection.execute(
            "SELECT counters FROM sessions ORDER BY id DESC LIMIT 1"
        ).fetchone()
    table = json.loads(tables)
    assert table["in"] == table["fed"] + sum(table["dropped"].values()) + table["waiting"], table
    print(
        f"live: {total} of {count} samples, {sender.disconnects} disconnects, committed before "
        f"kills {[rows for _, (rows, _) in committed]}, one session says the same to the bit\n"
        f"{said}"
    )


def main() -> None:
    """Both halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=DAY)
    parser.add_argument("--live-samples", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "leaky.edgelstm"
        leaky_native().save(model)
        soak_replay(folder, model, options.samples, dice)
        soak_live(folder, model, options.live_samples, dice)


if __name__ == "__main__":
    main()
