"""Eight hours of a ward's monitor in minutes: `make soak-monitor`.

A sensor of 100 Hz sends the samples of eight hours as fast as they are taken, numbered, while
viewers come and go: they read, read slowly or never, end without a word, load pages, write notes.
In the middle the monitor is killed (SIGKILL) and started again; the sensor goes on behind the last
sample that the store has. At the end every sample stands in the store once, every note that was
answered some seconds before a crash is there, and memory and descriptors are what they were.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import http.client
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.live.harness import free_port
from tests.monitor.lines import Line
from tests.soak.runs import last_of
from tests.unit.runtime.toy_models import leaky_native

SAMPLES = 8 * 3600 * 100
MOST_VIEWERS = 24
MEMORY_SLACK = 48 << 20
SETTLED_S = 5.0
"""A note is in the store so long after its answer."""

_CHUNK = 500
_PATHS = ("/", "/why", "/history?patient=P001", "/static/main.js", "/export?patient=P001")


class Sensor(threading.Thread):
    """Sends numbered samples; behind a crash from where it is told on.

    Args:
        port: of the monitor's TCP source.
        count: samples in all.
    """

    def __init__(self, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self._port, self._count = port, count
        self.sent = 0
        self.go_on_at: int | None = None

    def run(self) -> None:
        """Send all, and once more from where it is told on."""
        while True:
            if self.sent >= self._count and self.go_on_at is None:
                time.sleep(0.05)  # all is sent; a crash may still lose what was on its way
                continue
            try:
                link = socket.create_connection(("127.0.0.1", self._port), 5)
            except OSError:
                time.sleep(0.05)
                continue
            link.settimeout(120)
            with link, contextlib.suppress(OSError):
                self._send(link)

    def _send(self, link: socket.socket) -> None:
        if self.go_on_at is not None:
            self.sent, self.go_on_at = self.go_on_at, None
        while self.sent < self._count:
            end = min(self.sent + _CHUNK, self._count)
            text = "".join(f"{n},{n % 97},{n % 89}\n" for n in range(self.sent, end))
            link.sendall(text.encode())
            self.sent = end


@dataclass
class Ward:
    """Viewers that come and go, each from an address of its own.

    Args:
        url: of the page.
        dice: decides.
    """

    url: str
    dice: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[tuple[float, str]] = field(default_factory=list)
    """When each was answered, and its text."""
    readers: list[Line] = field(default_factory=list)
    sleepers: list[Line] = field(default_factory=list)

    def turn(self) -> None:
        """Something that viewers do; a monitor that is not there is no fault."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._act()
        for line in list(self.readers):
            try:
                is_open = line.read()
            except TimeoutError:
                continue
            except OSError:
                is_open = False
            if not is_open:
                self.counts["ended by the monitor"] += 1
                self.readers.remove(line)

    def _act(self) -> None:
        dice = self.dice.random()
        if dice < 0.35 and len(self.readers) + len(self.sleepers) < MOST_VIEWERS:
            is_sleeper = self.dice.random() < 0.3
            source = f"127.0.{self.dice.randrange(2, 200)}.{self.dice.randrange(1, 250)}"
            line = Line(self.url, 4096 if is_sleeper else 0, source)
            line.socket.settimeout(0.001)
            (self.sleepers if is_sleeper else self.readers).append(line)
            self.counts["slow viewers" if is_sleeper else "viewers"] += 1
        elif dice < 0.6 and self.readers + self.sleepers:
            pool = self.dice.choice([x for x in (self.readers, self.sleepers) if x])
            line = pool.pop(self.dice.randrange(len(pool)))
            if self.dice.random() < 0.5:
                line.vanish()
                self.counts["vanished"] += 1
            else:
                line.socket.close()
                self.counts["left"] += 1
        elif dice < 0.7:
            self._ask("GET", self.dice.choice(_PATHS))
        elif dice < 0.8:
            text = f"note {len(self.notes)}"
            body = json.dumps({"action": "note", "stream": "imu", "text": text})
            if self._ask("POST", "/api/act", body) == 200:
                self.notes.append((time.monotonic(), text))

    def _ask(self, method: str, path: str, body: str = "") -> int:
        place = self.url.removeprefix("http://").rstrip("/")
        source = (f"127.1.{self.dice.randrange(2, 200)}.{self.dice.randrange(1, 250)}", 0)
        line = http.client.HTTPConnection(place, timeout=30, source_address=source)
        with contextlib.closing(line):
            headers = {"Origin": self.url.rstrip("/"), "Content-Type": "application/json"}
            line.request(method, path, body or None, headers)
            answer = line.getresponse()
            answer.read()
        self.counts[f"{path.partition('?')[0]} {answer.status}"] += 1
        return answer.status

    def leave(self) -> None:
        """All of them, without a word."""
        for line in self.readers + self.sleepers:
            line.vanish()
        self.readers, self.sleepers = [], []


class Monitor:
    """The monitor in a process of its own, with its memory over time.

    Args:
        model: what it runs.
        source, port: of its sensor and of its page.
        store: file of the store.
    """

    def __init__(self, model: Path, source: int, port: int, store: Path) -> None:
        address = f"tcp://127.0.0.1:{source}?listen=yes&name=imu&columns=seq,a,b"
        command = [sys.executable, "-m", "edgelstm.cli", "monitor", str(model), "-i", address]
        command += ["--columns", "a,b", "--store", str(store), "--patient", "P001"]
        command += ["--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.memory: list[int] = []
        assert self.process.stdout is not None
        said = ""
        while "http://" not in said:
            line = self.process.stdout.readline().decode()
            assert line, said
            said += line
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        atexit.register(self.process.kill)  # a soak that fails leaves nothing behind
        self.descriptors_at_first = self.descriptors()

    def descriptors(self) -> int:
        """How many are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def look(self) -> None:
        """Take note of its memory."""
        assert self.process.poll() is None, f"the monitor ended: {self.process.returncode}"
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        line = next(each for each in status if each.startswith("VmRSS"))
        self.memory.append(int(line.split()[1]) << 10)

    def expect_flat(self) -> None:
        """The second half needs no more memory than the first, behind what fills at the start."""
        if len(self.memory) < 8:
            print("too short to tell whether memory is flat", flush=True)
            return
        half = len(self.memory) // 2
        before, after = max(self.memory[:half]), max(self.memory[half:])
        print(f"memory {before >> 20} MB, then {after >> 20} MB", flush=True)
        assert after < before + MEMORY_SLACK, f"memory grew from {before} to {after}"


def until(monitor: Monitor, ward: Ward, store: Path, wanted: int) -> None:
    """Viewers come and go until the store has so many samples."""
    last = time.monotonic()
    while (rows := last_of(store) + 1) < wanted:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            ward.turn()
            time.sleep(0.01)
        monitor.look()
        if time.monotonic() - last > 30:
            print(f"{rows} samples stored; {dict(ward.counts)}", flush=True)
            last = time.monotonic()


def check(store: Path, count: int, notes: list[str]) -> None:
    """What was sent stands there once, and what was written."""
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(store))}?mode=ro", uri=True)) as line:
        assert line.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT count(*), count(DISTINCT sample), min(sample), max(sample) FROM predictions"
        found = line.execute(query).fetchone()
        assert found == (count, count, 0, count - 1), found
        kept = {text for (text,) in line.execute("SELECT text FROM events WHERE kind = 'note'")}
    missing = [text for text in notes if text not in kept]
    assert not missing, f"{len(missing)} notes of {len(notes)} are gone: {missing[:3]}"
    command = [sys.executable, "-m", "edgelstm.cli", "audit-log", "verify", str(store)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    print(f"{count} samples, each once; {len(notes)} notes; {verified.stdout.strip()}", flush=True)


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=18)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        model, store = Path(name, "leaky.edgelstm"), Path(name, "ward.db")
        leaky_native().save(model)
        source, port = free_port(), free_port()
        sensor = Sensor(source, options.samples)
        ward = Ward(f"http://127.0.0.1:{port}/", random.Random(options.seed))
        monitor = Monitor(model, source, port, store)
        sensor.start()
        until(monitor, ward, store, options.samples // 2)
        killed_at = time.monotonic()
        monitor.process.kill()
        monitor.process.wait()
        monitor.expect_flat()
        safe = [text for when, text in ward.notes if when < killed_at - SETTLED_S]
        unsafe = {text for when, text in ward.notes if when >= killed_at - SETTLED_S}
        rows = last_of(store) + 1
        print(f"killed with {rows} samples stored, {sensor.sent} sent", flush=True)
        sensor.go_on_at = rows
        monitor = Monitor(model, source, port, store)
        until(monitor, ward, store, options.samples)
        time.sleep(SETTLED_S)
        ward.leave()
        end = time.monotonic() + 60
        while monitor.descriptors() > monitor.descriptors_at_first + 3:
            assert time.monotonic() < end, f"{monitor.descriptors()} descriptors stay open"
            time.sleep(0.2)
        monitor.expect_flat()
        monitor.process.send_signal(signal.SIGTERM)
        assert monitor.process.wait(60) == 0
        safe += [text for _, text in ward.notes if text not in unsafe and text not in safe]
        check(store, options.samples, safe)
    print(f"{time.monotonic() - started:.0f} s; {dict(ward.counts)}", flush=True)


if __name__ == "__main__":
    main()
