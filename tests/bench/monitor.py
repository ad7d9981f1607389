"""Sensor to pixel, many viewers, and what the page costs: `python -m tests.bench.monitor`.

A sensor sends the time of sending as one of its channels by UDP. In the browser each chart that was
drawn is read back in the frame behind it: every sample that is new in it has then taken as long as
its value says. The clocks are one. The server's share of a core is its process's own time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from edgelstm_compiler.driver import compile_model
from tests.models import lstm_model
from tests.monitor.browser import CHROMIUM, FLAGS

SKIPPED_S = 3.0
VIEWERS = 20
WRAP_S = 1000.0
"""Of the times that are sent: as float32 they are then good to 0.06 ms."""

_HOOK = """
window.ages = [];
window.drawn = 0;
let original;
Object.defineProperty(window, "uPlot", {
  configurable: true,
  get: () => original,
  set(plain) {
    original = function (options, data, place) {
      const plot = new plain(options, data, place), set = plot.setData;
      let seen = -1;
      plot.setData = (columns, ...more) => {
        set(columns, ...more);
        if (options.series[1]?.label !== "sent") return;
        const sent = columns[1], from = sent.findLastIndex((each) => each <= seen) + 1;
        const fresh = sent.slice(from);
        if (!fresh.length) return;
        seen = fresh.at(-1);
        window.drawn += 1;
        requestAnimationFrame(() => {
          const now = (Date.now() / 1000) % WRAP;
          window.ages.push(...fresh.map((each) => now - each));
        });
      };
      return plot;
    };
  },
});
"""


class Sender(threading.Thread):
    """Sends samples at their pace.

    Args:
        port: of 127.0.0.1, by UDP.
        rate_hz, channels: of the sensor.
        together: samples of one datagram.
    """

    def __init__(self, port: int, rate_hz: float, channels: int, together: int) -> None:
        super().__init__(daemon=True)
        self._port, self._rate = port, rate_hz
        self._channels, self._together = channels, together
        self.is_stopped = threading.Event()

    def run(self) -> None:
        """Until it is stopped."""
        rng = np.random.default_rng(1)
        start, sent = time.monotonic(), 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            while not self.is_stopped.is_set():
                sent += self._together
                time.sleep(max(start + sent / self._rate - time.monotonic(), 0.0))
                rows = rng.normal(0, 1, (self._together, self._channels - 1))
                now = time.time() % WRAP_S
                text = "".join(
                    f"{now:.5f}," + ",".join(f"{value:.4f}" for value in row) + "\n"
                    for row in rows.tolist()
                )
                line.sendto(text.encode(), ("127.0.0.1", self._port))


def look_on(address: str, count: int) -> subprocess.Popen[bytes]:
    """Viewers in a process of their own; see `seen`."""
    command = [sys.executable, "-m", "tests.monitor.lines", address, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def seen(viewers: subprocess.Popen[bytes]) -> list[int]:
    """How many messages with samples each of them got until the server ended."""
    return [int(each) for each in viewers.communicate(timeout=60)[0].split()]


@contextmanager
def served(folder: Path, rate_hz: float, channels: int) -> Iterator[tuple[str, int, int]]:
    """A monitor in a process of its own: its address, the port of its sensor, its process."""
    model = compile_model(
        lstm_model(features=channels, hidden=16, steps=None),
        rate_hz=rate_hz,
        columns=["sent", *(f"c{k}" for k in range(1, channels))],
        units=["s", *["m/s^2"] * (channels - 1)],
        check=False,
        target_options={"cpu": "native"},
    )
    artifact = folder / f"bench-{channels}.edgelstm"
    model.save(artifact)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "edgelstm.cli", "monitor", str(artifact), "--port", "0"]
    command += ["-i", f"udp://127.0.0.1:{port}", "--store", str(folder / f"bench-{channels}.db")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert running.stdout is not None
    try:
        said = ""
        while (address := re.search(r"http://[^\s]+/", said)) is None:
            line = running.stdout.readline().decode()
            if not line:
                raise RuntimeError(said)
            said += line
        threading.Thread(target=running.stdout.read, daemon=True).start()
        yield address[0], port, running.pid
    finally:
        running.terminate()
        running.wait(30)


def cpu_s(process: int) -> float:
    """What a process has used of cores."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ages_ms(folder: Path, seconds: float) -> tuple[Any, int, list[int], float]:
    """At 100 Hz: each sample's way, charts drawn, messages of the others, the server's share."""
    with served(folder, 100.0, 7) as (address, port, process):
        sender = Sender(port, 100.0, 7, 1)
        sender.start()
        viewers = look_on(address, VIEWERS - 1)
        with sync_playwright() as tools:
            chromium = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script(_HOOK.replace("WRAP", str(WRAP_S)))
            page.goto(address)
            page.wait_for_timeout(1000 * SKIPPED_S)
            page.evaluate("ages.length = drawn = 0")
            before, start = cpu_s(process), time.monotonic()
            page.wait_for_timeout(1000 * seconds)
            share = (cpu_s(process) - before) / (time.monotonic() - start)
            found = 1000 * np.array(page.evaluate("ages"))
            drawn = int(page.evaluate("drawn"))
            chromium.close()
        sender.is_stopped.set()
    return found, drawn, seen(viewers), share


def share_of_a_core(folder: Path, seconds: float) -> float:
    """Of the server at 1 kHz with nine channels, one viewer."""
    with served(folder, 1000.0, 9) as (address, port, process):
        sender = Sender(port, 1000.0, 9, 20)
        sender.start()
        viewer = look_on(address, 1)
        time.sleep(SKIPPED_S)
        before, start = cpu_s(process), time.monotonic()
        time.sleep(seconds)
        share = (cpu_s(process) - before) / (time.monotonic() - start)
        sender.is_stopped.set()
    frames = seen(viewer)[0]
    if frames < 10 * seconds:
        raise RuntimeError(f"the viewer saw {frames} frames")
    return share


def main() -> int:
    """Print the figures; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    if CHROMIUM is None or shutil.which(CHROMIUM) is None:
        raise SystemExit("needs the package chromium")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        ages, drawn, frames, share = ages_ms(Path(folder), seconds)
        p50, p99 = np.quantile(ages, [0.5, 0.99])
        print(
            f"sensor to pixel, 100 Hz, {VIEWERS} viewers: p50 {p50:.1f} ms, p99 {p99:.1f} ms "
            f"({len(ages)} samples, {drawn} charts drawn); goal 50; others saw {min(frames)} to "
            f"{max(frames)} messages; server {share:.1%} of a core"
        )
        cost = share_of_a_core(Path(folder), seconds)
        print(f"1 kHz x 9 channels: server {cost:.1%} of a core; goal 5 %")
    return int(p99 > 50 or cost > 0.05 or min(frames) < 0.9 * max(frames))


if __name__ == "__main__":
    raise SystemExit(main())
