"""A day of live samples in minutes, with everything that goes wrong: `make soak-live`.

A recording of 8,640,000 samples (24 hours at 100 Hz) with gaps, duplicates, disorder, NaN and
garbage goes through `edgelstm run` into a store, which is killed three times with SIGKILL and has
no room for a while. At the end the store holds what an undisturbed run stores, to the bit, and its
state is the same. Then a sensor that numbers its samples sends over TCP, is disconnected again and
again, and the run is killed three times: nothing that was committed is gone, no key is there twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.live.harness import free_port
from tests.unit.runtime.toy_models import leaky_native

DAY = 8_640_000
_CHUNK = 100_000
_MEMORY_SLACK = 64 << 20


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


@dataclass
class Watch:
    """Memory and descriptors of a process over time."""

    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def look(self, pid: int) -> None:
        """Take note."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            self.descriptors.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        except (FileNotFoundError, ProcessLookupError):
            return
        line = next((x for x in status.splitlines() if x.startswith("VmRSS")), "VmRSS: 0 kB")
        self.memory.append(int(line.split()[1]) << 10)

    def expect_flat(self) -> None:
        """The end is as the middle was."""
        if len(self.memory) < 8:
            return
        half = len(self.memory) // 2
        before, after = max(self.memory[2:half]), max(self.memory[half:])
        assert after < before + _MEMORY_SLACK, f"memory grew from {before} to {after}"
        first, second = max(self.descriptors[:half]), max(self.descriptors[half:])
        # A connection may stand while the one before it is ending.
        assert second <= first + 3, f"descriptors grew from {first} to {second}"
        print(
            f"memory {before >> 20} MB, then {after >> 20} MB; descriptors {first}, then {second}",
            flush=True,
        )


def start(model: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    command = [sys.executable, "-m", "edgelstm.cli", "run", str(model), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def rows_of(store: Path) -> int:
    """How many predictions are committed."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def wait(process: subprocess.Popen[bytes], seconds: float, watch: Watch) -> bool:
    """Whether the process ended within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            return True
        watch.look(process.pid)
        time.sleep(0.2)
    return process.poll() is not None


def finish(process: subprocess.Popen[bytes], watch: Watch) -> str:
    """Wait for the end of a run, which is a good one; what it said."""
    assert process.stderr is not None
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))  # type: ignore[union-attr]
    reader.start()
    wait(process, 36_000, watch)
    reader.join()
    text = b"".join(said).decode(errors="replace")
    assert process.returncode == 0, text
    return text


def no_room(process: subprocess.Popen[bytes], store: Path, seconds: float) -> None:
    """The store cannot grow for a while."""
    size = max(path.stat().st_size for path in store.parent.glob(store.name + "*"))
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    time.sleep(seconds)
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, endless)


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


def soak_replay(folder: Path, model: Path, count: int, seed: int) -> None:
    """See the module; the first half."""
    rng, dice = np.random.default_rng(seed), random.Random(seed)
    recording, store, whole = folder / "day.csv", folder / "soak.db", folder / "whole.db"
    write_recording(recording, count, rng)
    print(f"recording: {recording.stat().st_size >> 20} MB", flush=True)
    common = ("-i", f"file:{recording}?name=day", "--rate", "100", "--on-gap", "hold", "--reorder")
    arguments = (*common, "0.05", "--quiet", "-o")
    watch, started = Watch(), time.monotonic()
    undisturbed = finish(start(model, *common, "0.05", "-o", f"store:{whole}"), watch)
    took = time.monotonic() - started
    watch.expect_flat()
    print(f"undisturbed: {took:.0f} s\n{undisturbed}", flush=True)
    for kill in range(3):
        process = start(model, *arguments, f"store:{store}")
        ended = wait(process, took * dice.uniform(0.15, 0.3) + 1.0, Watch())
        if kill == 1 and not ended:
            no_room(process, store, 3.0)
        process.kill()
        process.communicate()
        print(f"kill {kill + 1}: {rows_of(store)} predictions committed", flush=True)
    finish(start(model, *arguments, f"store:{store}"), watch)
    print(f"equal to the bit: {compare(store, whole)} predictions and the state", flush=True)


class Sender(threading.Thread):
    """A sensor that numbers its samples and loses its connection again and again."""

    def __init__(self, port: int, count: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._count = count
        self._dice = random.Random(seed)
        self.disconnects = 0

    def run(self) -> None:
        """Send all."""
        at = 0
        while at < self._count:
            try:
                link = socket.create_connection(("127.0.0.1", self._port), 5)
            except OSError:
                time.sleep(0.05)
                continue
            with link, contextlib.suppress(OSError):
                until = min(at + self._dice.randint(2_000, 20_000), self._count)
                while at < until:
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


def soak_live(folder: Path, model: Path, count: int, seed: int) -> None:
    """See the module; the second half."""
    store, port = folder / "live.db", free_port()
    address = f"tcp://127.0.0.1:{port}?listen=yes&name=imu&columns=seq,a,b"
    arguments = (
        "-i",
        address,
        "-o",
        f"store:{store}",
        "--columns",
        "a,b",
        "--on-bad-sample",
        "skip",
    )
    sender, watch = Sender(port, count, seed), Watch()
    sender.start()
    committed: list[tuple[int, str]] = []
    process = start(model, *arguments)
    for _ in range(3):
        wait(process, 3.0, watch)
        with contextlib.closing(sqlite3.connect(store)) as connection:
            query = "SELECT count(*), max(sample), sum(length(outputs)) FROM predictions"
            committed.append((rows_of(store), json.dumps(connection.execute(query).fetchone())))
        process.kill()
        process.communicate()
        assert rows_of(store) >= committed[-1][0], "a committed prediction is gone"
        process = start(model, *arguments)
    while sender.is_alive():
        assert not wait(process, 0.5, watch), process.communicate()[1]
    wait(process, 2.0, watch)
    process.terminate()
    said = process.communicate()[1].decode(errors="replace")
    assert process.returncode == 0, said
    watch.expect_flat()
    with contextlib.closing(sqlite3.connect(store)) as connection:
        total, last = connection.execute("SELECT count(*), max(sample) FROM predictions").fetchone()
        (tables,) = connection.execute(
            "SELECT counters FROM sessions ORDER BY id DESC LIMIT 1"
        ).fetchone()
    table = json.loads(tables)
    assert table["in"] == table["fed"] + sum(table["dropped"].values()) + table["waiting"], table
    print(
        f"live: {total} of {count} samples, last number {last}, {sender.disconnects} "
        f"disconnects, committed before kills {[rows for rows, _ in committed]}\n{said}"
    )


def main() -> None:
    """Both halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=DAY)
    parser.add_argument("--live-samples", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "leaky.edgelstm"
        leaky_native().save(model)
        soak_replay(folder, model, options.samples, options.seed)
        soak_live(folder, model, options.live_samples, options.seed)


if __name__ == "__main__":
    main()
