"""Delays from sensor to sink against a bare reader, and 50 patients: `python -m tests.bench.live`.

Both get the same lines in turn in one run, in processes of their own: one reads and writes the line
on, the other one predicts and writes NDJSON. The first 5 seconds do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho

from tests.live.brokers import MOSQUITTO, Broker
from tests.live.harness import Wire
from tests.unit.runtime.toy_models import leaky_native

SKIPPED_S = 5.0
RATE_HZ = 100.0

_BARE_SERIAL = """
import serial, sys
port = serial.Serial({path!r})
print("ready", flush=True)
while line := port.readline():
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""

_BARE_MQTT = """
import asyncio, aiomqtt, sys
async def main():
    async with aiomqtt.Client("127.0.0.1", {port}) as client:
        await client.subscribe("bare")
        print("ready", flush=True)
        async for message in client.messages:
            sys.stdout.buffer.write(message.payload + b"\\n")
            sys.stdout.buffer.flush()
asyncio.run(main())
"""


class Reader(threading.Thread):
    """Notes when the lines of a process arrive.

    Args:
        process: whose standard output is read.
        is_line: which lines count.
    """

    def __init__(self, process: subprocess.Popen[bytes], is_line: Callable[[bytes], bool]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._is_line = is_line
        self.times: list[float] = []
        self.start()

    def run(self) -> None:
        """Read to the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.monotonic()
            if self._is_line(line):
                self.times.append(now)


def measure(
    run: list[str],
    bare: str,
    send: Callable[[bytes], None],
    send_bare: Callable[[bytes], None],
    seconds: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Delays of the run and of the bare reader, in ms."""
    processes = [
        subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, "-c", bare], stdout=subprocess.PIPE),
    ]
    readers = [
        Reader(processes[0], lambda line: b'"sample"' in line and b'"event"' not in line),
        Reader(processes[1], lambda line: line[:1].isdigit()),
    ]
    time.sleep(4.0)
    count = int((seconds + SKIPPED_S) * RATE_HZ)
    sent: tuple[list[float], list[float]] = ([], [])
    start = time.monotonic()
    for i in range(count):
        line = b"%d.5,%d.25" % (i % 10, i % 7)
        for k, (way, due) in enumerate(((send, 0.0), (send_bare, 0.5))):
            wait = start + (i + due) / RATE_HZ - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sent[k].append(time.monotonic())
            way(line)
    time.sleep(1.0)
    for process in processes:
        process.terminate()
        process.wait(10)
    found = []
    for reader, moments in zip(readers, sent, strict=True):
        reader.join(5)
        assert len(reader.times) == count, (len(reader.times), count)
        delays = 1000 * (np.array(reader.times) - np.array(moments))
        found.append(delays[int(SKIPPED_S * RATE_HZ) :])
    return found[0], found[1]


def report(name: str, run: np.ndarray, bare: np.ndarray, bound_ms: float) -> None:
    """One line, and what is asked for."""
    p50, p99 = np.percentile(run, [50, 99])
    b50, b99 = np.percentile(bare, [50, 99])
    print(
        f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms (at most {bound_ms:g}); bare reader "
        f"{b50:.2f} and {b99:.2f} ms; above it {p50 - b50:+.2f} and {p99 - b99:+.2f} ms (at most 1)"
    )


def bench_serial(model: Path, seconds: float) -> None:
    """By pseudo terminals."""
    wire, other = Wire(), Wire()
    run = [sys.executable, "-m", "edgelstm.cli", "run", str(model), "-i", f"serial:{wire.path}"]
    delays = measure(
        [*run, "-o", "stdout:", "--quiet"],
        _BARE_SERIAL.format(path=other.path),
        lambda line: wire.write(line + b"\n"),
        lambda line: other.write(line + b"\n"),
        seconds,
    )
    report("serial", *delays, 5.0)


def bench_mqtt(model: Path, broker: Broker, seconds: float) -> None:
    """By mosquitto."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    address = f"mqtt://127.0.0.1:{broker.port}/run?format=csv&qos=0"
    run = [sys.executable, "-m", "edgelstm.cli", "run", str(model), "-i", address]
    delays = measure(
        [*run, "-o", "stdout:", "--quiet"],
        _BARE_MQTT.format(port=broker.port),
        lambda line: client.publish("run", line),
        lambda line: client.publish("bare", line),
        seconds,
    )
    client.loop_stop()
    report("MQTT", *delays, 10.0)


def bench_patients(model: Path, broker: Broker, folder: Path, seconds: float) -> None:
    """50 patients at 100 Hz, ten samples a message, into a store."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    address = f"mqtt://127.0.0.1:{broker.port}/ward/+/imu?format=struct:<2f&qos=0"
    run = [sys.executable, "-m", "edgelstm.cli", "run", str(model), "-i", address]
    process = subprocess.Popen(
        [*run, "-o", f"store:{folder}/ward.db", "--json"], stdout=subprocess.PIPE
    )
    time.sleep(4.0)
    payload = struct.pack("<20f", *range(20))
    ticks = os.sysconf("SC_CLK_TCK")
    used = began = 0.0
    start = time.monotonic()
    count = int((seconds + SKIPPED_S) * 10)
    for i in range(count):
        if i == int(SKIPPED_S * 10):
            used, began = _processor_s(process.pid, ticks), time.monotonic()
        for patient in range(50):
            wait = start + (i + patient / 50) / 10 - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            client.publish(f"ward/p{patient}/imu", payload)
    share = (_processor_s(process.pid, ticks) - used) / (time.monotonic() - began)
    time.sleep(1.0)
    process.terminate()
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    process.wait(10)
    client.loop_stop()
    print(
        f"50 patients: {100 * share:.0f} % of a core (at most 50), {summary['predictions']} of "
        f"{count * 500} samples predicted and stored"
    )


def _processor_s(pid: int, ticks: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", choices=["serial", "mqtt", "patients"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "leaky.edgelstm"
        leaky_native().save(model)
        if options.only in (None, "serial"):
            bench_serial(model, options.seconds)
        if MOSQUITTO is None:
            print("MQTT: needs mosquitto: apt-get install mosquitto")
            return
        broker = Broker(folder)
        try:
            if options.only in (None, "mqtt"):
                bench_mqtt(model, broker, options.seconds)
            if options.only in (None, "patients"):
                bench_patients(model, broker, folder, options.seconds)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
