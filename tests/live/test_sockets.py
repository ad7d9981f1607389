"""UDP and TCP by real sockets: datagrams, servers, clients, connections that break."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import RecordingError
from edgelstm.io.pump import SINK_ROWS
from edgelstm.io.replay import BadSamplePolicy
from tests.live.harness import (
    Live,
    csv_lines,
    free_port,
    samples,
    send_datagrams,
    wait_until,
)
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytestmark = needs_cc


def _ndjson(values: np.ndarray) -> list[bytes]:
    return [json.dumps({"x": [float(a), float(b)]}).encode() for a, b in values]


def test_datagrams_with_one_or_several_samples() -> None:
    """CSV lines, one and three in a datagram, are samples in their order."""
    values = samples(9)
    port = free_port(socket.SOCK_DGRAM)
    with Live(leaky_native(), [f"udp://127.0.0.1:{port}"]) as live:
        wait_until(lambda: _is_bound(port))
        send_datagrams(port, [csv_lines(values[:3]), *map(csv_lines, np.split(values[3:], 6))])
        live.wait_for(9)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


@pytest.mark.parametrize(
    ("options", "bad"),
    [
        ("format=struct:<2f", b"\x00" * 9),
        ("format=struct:<2f", b""),
        ("format=ndjson", b'{"x": [1,'),
        ("format=ndjson", b'{"x": [1, 2, 3]}'),
        ("format=ndjson", b'{"y": [1, 2]}'),
        ("format=ndjson", b'{"x": ["a", "b"]}'),
        ("format=ndjson", b"[" * 5000),
        ("format=ndjson", b"\xff\xfe"),
        ("format=csv", b"1,2,3"),
        ("format=csv", b"1,a"),
        ("format=csv", b"\xc3\x28,1"),
        ("format=csv", b"1_0,2"),
        ("format=csv", b"nan,1"),
        ("format=csv", b"1e999,1"),
        ("format=csv", b"9" * 1000 + b",1"),
        ("format=csv", b"1" * 60000),
    ],
)
def test_a_hostile_datagram_is_counted_and_no_prediction(options: str, bad: bytes) -> None:
    """What comes before and behind it is predicted as if it had not come."""
    values = samples(6)
    if "struct" in options:
        good = [struct.pack("<2f", *map(float, x)) for x in values]
    else:
        good = _ndjson(values) if "json" in options else [csv_lines(x[None]) for x in values]
    port = free_port(socket.SOCK_DGRAM)
    address = f"udp://127.0.0.1:{port}?{options}"
    with Live(leaky_native(), [address], policy=BadSamplePolicy.SKIP) as live:
        wait_until(lambda: _is_bound(port))
        send_datagrams(port, [*good[:3], bad, *good[3:]])
        live.wait_for(6)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    counters = live.counters()
    assert counters.is_balanced
    assert counters.seen == 6 + counters.dropped.total()
    assert counters.dropped.total() == (1 if bad or "struct" in options else 0)


def test_a_server_that_closes_is_connected_to_again() -> None:
    """Back-off, then the stream goes on behind a gap."""
    values = samples(20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for part in (values[:10], values[10:]):
                peer, _ = server.accept()
                peer.sendall(csv_lines(part) + (b"1,"))
                peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with Live(leaky_native(), [f"tcp://127.0.0.1:{port}"]) as live:
            live.wait_for(20)
        thread.join()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert live.kinds()[:3] == ["connected", "disconnected", "connected again"]
    assert live.column("flags")[10] == 8
    assert live.counters().dropped["cut line"] >= 1
    assert live.counters().is_balanced


def test_clients_that_connect_send_lines_of_their_own() -> None:
    """Two clients write halves of lines in turn, and no line is mixed."""
    port = free_port()
    values = samples(2)
    with Live(leaky_native(), [f"tcp://127.0.0.1:{port}?listen=yes"]) as live:
        wait_until(lambda: _accepts(port))
        live.wait_for_event("disconnected")
        first = socket.create_connection(("127.0.0.1", port))
        second = socket.create_connection(("127.0.0.1", port))
        lines = [csv_lines(x[None]) for x in values]
        first.sendall(lines[0][:4])
        second.sendall(lines[1][:3])
        first.sendall(lines[0][4:])
        live.wait_for(1)
        second.sendall(lines[1][3:])
        live.wait_for(2)
        first.close()
        second.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


def test_a_line_without_end_is_refused_and_never_held() -> None:
    """50 MB without a line end are one refusal; the next line is a sample."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(csv_lines(samples(1)))
                for _ in range(50):
                    peer.sendall(b"9" * 1_000_000)
                peer.sendall(b"\n" + csv_lines(samples(1)))
                peer.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with Live(leaky_native(), [f"tcp://127.0.0.1:{port}"], policy=BadSamplePolicy.SKIP) as live:
            live.wait_for(2)
            counters = live.counters()
        thread.join()
    assert dict(counters.dropped) == {"too long": 1}
    assert counters.seen == 3


def test_a_port_that_is_taken_is_an_error() -> None:
    """The message says which."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with (
            pytest.raises(RecordingError, match=f"cannot listen at udp://127.0.0.1:{port}"),
            Live(leaky_native(), [f"udp://127.0.0.1:{port}"]) as live,
        ):
            live.finish()


def _is_bound(port: int) -> bool:
    """Looked up, not tried: who binds a port to see whether it is free takes it from its owner."""
    table = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return any(int(line.split()[1].partition(":")[2], 16) == port for line in table)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_run_that_falls_behind_is_not_silent() -> None:
    """While a sink holds the run up, samples wait: nobody says that there were none."""
    port = free_port(socket.SOCK_DGRAM)
    with Live(leaky_native(), [f"udp://127.0.0.1:{port}"], silence_s=0.2) as live:
        wait_until(lambda: _is_bound(port))
        send_datagrams(port, [csv_lines(samples(1))])
        live.wait_for(1)
        assert live.kept is not None
        live.kept.waiting = SINK_ROWS + 1
        send_datagrams(port, [csv_lines(samples(1)), csv_lines(samples(1))])
        wait_until(lambda: live.counters().queued > 0)
        before = live.kinds().count("no prediction")
        time.sleep(0.6)
        assert live.kinds().count("no prediction") == before
        live.kept.waiting = 0
        live.wait_for(3)
        wait_until(lambda: live.kinds().count("no prediction") > before)
        assert live.counters().queued == 0
