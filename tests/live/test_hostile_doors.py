"""Hostile input at every door, in every format: counted, refused, and the run goes on.

Recordings have `tests/fuzz`; LSL brings numbers of a fixed count, and text is refused there.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.sources import ble
from edgelstm.io.wire.json_lines import JsonLines
from tests.live.brokers import Broker, needs_mosquitto
from tests.live.harness import Live, Wire, csv_lines, free_port, samples, wait_until
from tests.live.test_ble import FakeRadio
from tests.live.test_sockets import _accepts, _is_bound
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference

Send = Callable[[bytes], None]
MB = 1_000_000
DIGITS = b"9" * 1000

BAD: dict[str, dict[str, bytes]] = {
    "csv": {
        "a giant line": b"9" * 50_000 + b",1",
        "10 MB": b"9" * (10 * MB),
        "bad UTF-8": b"\xc3\x28,1",
        "NaN": b"nan,1",
        "infinity": b"1,-inf",
        "1,000 digits": DIGITS + b"," + DIGITS,
        "a number too few": b"1",
        "a number too many": b"1,2,3",
        "text": b"one,two",
        "zero bytes": b"\x00" * 100,
    },
    "ndjson": {
        "a giant line": b'{"x": [' + b"9" * 50_000 + b", 1]}",
        "10 MB": b'{"x": "' + b"x" * (10 * MB) + b'"}',
        "bad UTF-8": b'{"x": [1, \xff]}',
        "NaN": b'{"x": [NaN, 1]}',
        "1,000 digits": b'{"x": [' + DIGITS + b", 1]}",
        "5,000 digits": b'{"x": [' + 5 * DIGITS + b", 1]}",
        "a number too few": b'{"x": [1]}',
        "a number too many": b'{"x": [1, 2, 3]}',
        "half": b'{"x": [1,',
        "deep": b"[" * 20_000,
        "deep objects": b'{"x":' * 5_000,
        "another type": b'{"x": true}',
    },
    "struct": {
        "10 MB": b"\x00" * (10 * MB + 1),
        "NaN": struct.pack("<2f", float("nan"), 1.0),
        "infinity": struct.pack("<2f", 1.0, float("inf")),
        "a byte too few": b"\x01" * 7,
        "a byte too many": b"\x01" * 9,
        "text": b"hello, world\n",
    },
}
MARK = b"\xaa\x55"


def good(name: str, row: np.ndarray) -> bytes:
    """One sample."""
    if name == "struct":
        return struct.pack("<2f", *map(float, row))
    if name == "ndjson":
        return b'{"x": [%s]}' % csv_lines(row[None]).strip()
    return csv_lines(row[None]).strip()


@contextmanager
def serial(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    wire = Wire()
    yield f"serial:{wire.path}?start=keep", wire.write, lambda: True
    wire.close()


@contextmanager
def tcp(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    links: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def send(data: bytes) -> None:
            if not links:
                links.append(server.accept()[0])
            links[0].sendall(data)

        yield f"tcp://127.0.0.1:{server.getsockname()[1]}?end=finish", send, lambda: True
    for link in links:
        link.close()


@contextmanager
def tcp_listen(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    port = free_port()
    links: list[socket.socket] = []

    def send(data: bytes) -> None:
        if not links:
            links.append(socket.create_connection(("127.0.0.1", port)))
        links[0].sendall(data)

    yield f"tcp://127.0.0.1:{port}?listen=yes", send, lambda: _accepts(port)
    for link in links:
        link.close()


@contextmanager
def udp(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        send = lambda data: link.sendto(data, ("127.0.0.1", port)) and None  # noqa: E731
        yield f"udp://127.0.0.1:{port}?name=udp", send, lambda: _is_bound(port)


@contextmanager
def mqtt(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    paho = pytest.importorskip("paho.mqtt.client")
    pytest.importorskip("aiomqtt", reason="needs aiomqtt: pip install -e '.[mqtt]'")
    broker = Broker(folder)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    send = lambda data: client.publish("imu", data, qos=1) and None  # noqa: E731
    yield f"mqtt://127.0.0.1:{broker.port}/imu?name=mqtt", send, lambda: True
    client.loop_stop()
    broker.stop()


@contextmanager
def stdin(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    there, here = os.pipe()

    def send(data: bytes) -> None:
        while data:
            data = data[os.write(here, data) :]

    with pytest.MonkeyPatch.context() as patch, os.fdopen(there) as standard:
        patch.setattr(sys, "stdin", standard)
        yield "stdin:?name=stdin", send, lambda: True
    os.close(here)


@contextmanager
def bluetooth(folder: Path) -> Iterator[tuple[str, Send, Callable[[], bool]]]:
    radio = FakeRadio()
    radio.is_away = False
    ready = lambda: bool(radio.links) and radio.links[0].is_ready  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ble, "make_radio", lambda: radio)
        yield "ble:IMU?characteristic=2a37", lambda data: radio.links[0].say(data), ready


STREAMS = (serial, tcp, tcp_listen, stdin)
DOORS = [serial, tcp, tcp_listen, udp, pytest.param(mqtt, marks=needs_mosquitto), stdin, bluetooth]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("door", DOORS)
def test_hostile_input_is_counted_and_the_run_goes_on(door: Any, name: str, tmp_path: Path) -> None:
    """Each kind between two samples: the predictions are those of the samples alone."""
    kinds = dict(BAD[name])
    if door is udp:
        kinds.pop("10 MB", None)  # no datagram holds it
    is_stream = door in STREAMS
    values = samples(len(kinds) + 1)
    with door(tmp_path) as (address, send, is_ready):
        options = f"format={name}" + (":<2f" if name == "struct" else "")
        end, mark = b"", b""
        if is_stream and name == "struct":
            options, mark = f"{options}&sync={MARK.hex()}", MARK
        elif is_stream:
            end = b"\n"
        address += ("&" if "?" in address else "?") + options
        model = leaky_reference()
        with Live(model, [address], policy=BadSamplePolicy.SKIP) as live:
            wait_until(lambda: live.run.pump is not None and is_ready())
            if door not in (udp, stdin, tcp_listen):
                live.wait_for_event("connected")
            for k, bad in enumerate(kinds.values()):
                send(mark + good(name, values[k]) + end)
                live.wait_for(k + 1)
                send(mark + bad + end)
            send(mark + good(name, values[-1]) + end)
            live.wait_for(len(values))
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    counters = live.counters()
    assert counters.is_balanced
    assert counters.seen == len(values) + counters.dropped.total()
    assert counters.dropped.total() >= len(kinds) - 1, counters.dropped


@pytest.mark.parametrize(
    ("shared", "samples"),
    [
        (b",".join(b'"k%d":1' % k for k in range(30_000)), 200_000),
        (b'"o":{' + b",".join(b'"k%d":"t"' % k for k in range(3000)) + b"}", 100_000),
        (b'"o":' + b"[" * 500 + b"]" * 500, 100_000),
    ],
    ids=["numbers", "texts", "lists"],
)
def test_one_message_cannot_keep_the_run_busy(shared: bytes, samples: int) -> None:
    """A megabyte whose samples share so many values would be billions of them."""
    message = b"{" + shared + b',"s":[' + b",".join([b"{}"] * samples) + b"]}"
    wire = JsonLines()
    began = time.monotonic()
    rows = wire.message(message)
    assert time.monotonic() - began < 5
    assert len(rows) == 0
    assert rows.refused == {"wrong length": 1}
    few = wire.message(b'{"t": 5, "s": [{"x": 1}, {"x": 2}]}')
    np.testing.assert_array_equal(few.values, [[5, 1], [5, 2]])
