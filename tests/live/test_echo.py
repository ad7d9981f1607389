"""Echo questions over real doors, to sensors with clocks and delays of their own."""

from __future__ import annotations

import asyncio
import heapq
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.live import SourceContext
from edgelstm.io.registry import open_source
from edgelstm.io.sources.echo import NO_ANSWER, Echo
from tests.live.brokers import Broker, needs_mosquitto
from tests.live.harness import Live, Wire, free_port, wait_until
from tests.unit.runtime.toy_models import leaky_reference

SAMPLE_S = 0.01
DELAYS_S = (0.030, 0.045)
"""Of the transport, each way; without answers nobody can see it."""


class Firmware:
    """A sensor of 100 Hz: it says when its samples were taken, and answers, as a device would.

    Args:
        base: this machine's monotonic clock where the values, which are times, begin.
        k: which of two sensors: its column, its delay, and how its clock runs.
        send: a sample `(stamp in us, value)`, or an answer.
        read: questions that came meanwhile.
    """

    def __init__(
        self,
        base: float,
        k: int,
        send: Callable[[tuple[int, float] | bytes], None],
        read: Callable[[], bytes],
    ) -> None:
        self._base, self._delay, self._ppm = base, DELAYS_S[k], 75.0 * (-1) ** k
        self._send, self._read = send, read
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Firmware:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _stamp(self) -> int:
        return round(1e6 * (time.monotonic() * (1 + self._ppm * 1e-6) + 5000.0))

    def _later(self, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (time.monotonic() + self._delay, self._count, do))

    def _sample(self) -> None:
        sample = (self._stamp(), time.monotonic() - self._base)
        self._later(lambda: self._send(sample))

    def _question(self, line: bytes) -> None:
        word, number = line.split()
        assert word == b"#echo"

        def answer() -> None:
            now = self._stamp()
            text = b"#echo %d %d %d\n" % (int(number), now, now)
            self._later(lambda: self._send(text))

        self._later(answer)

    def _work(self) -> None:
        pending, next_sample = b"", time.monotonic()
        while not self._is_over.wait(0.001):
            pending += self._read()
            *lines, pending = pending.split(b"\n")
            for line in lines:
                self._question(line)
            if time.monotonic() >= next_sample:
                self._sample()
                next_sample += SAMPLE_S
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()


def _ready(descriptor: Any) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _csv(data: tuple[int, float] | bytes) -> bytes:
    return data if isinstance(data, bytes) else b"%d,%.6f\n" % data


def _json(data: tuple[int, float] | bytes, k: int) -> bytes:
    if isinstance(data, bytes):
        return data
    return json.dumps({"time_us": data[0], f"x[{k}]": data[1]}).encode() + b"\n"


@contextmanager
def serial(base: float, k: int, echo: str, folder: Path) -> Iterator[str]:
    """Lines of CSV on a pseudo-terminal."""
    wire = Wire()

    def read() -> bytes:
        return os.read(wire.master, 1024) if _ready(wire.master) else b""

    with Firmware(base, k, lambda data: wire.write(_csv(data)), read):
        yield f"serial:{wire.path}?columns=time_us,x[{k}]&name=s{k}{echo}"
    wire.close()


@contextmanager
def tcp(base: float, k: int, echo: str, folder: Path) -> Iterator[str]:
    """Lines of JSON from a server."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        port = server.getsockname()[1]
        links: list[socket.socket] = []

        def send(data: tuple[int, float] | bytes) -> None:
            for link in links:
                with suppress(OSError):  # the run has ended
                    link.sendall(_json(data, k))

        def read() -> bytes:
            if not links and _ready(server):
                links.append(stack.enter_context(server.accept()[0]))
            with suppress(OSError):
                return links[0].recv(1024) if links and _ready(links[0]) else b""
            return b""

        with Firmware(base, k, send, read):
            yield f"tcp://127.0.0.1:{port}?format=ndjson&name=s{k}{echo}"


@contextmanager
def udp(base: float, k: int, echo: str, folder: Path) -> Iterator[str]:
    """Packed samples in datagrams, answers as text."""
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.1", port))

        def send(data: tuple[int, float] | bytes) -> None:
            try:
                link.send(data if isinstance(data, bytes) else struct.pack("<Qd", *data))
            except ConnectionRefusedError:
                return  # nobody listens yet

        def read() -> bytes:
            try:
                return link.recv(1024) if _ready(link) else b""
            except ConnectionRefusedError:
                return b""

        with Firmware(base, k, send, read):
            layout = f"format=struct:<Qd&columns=time_us,x[{k}]"
            yield f"udp://127.0.0.1:{port}?{layout}&name=s{k}{echo}"


@contextmanager
def mqtt(base: float, k: int, echo: str, folder: Path) -> Iterator[str]:
    """Messages of JSON through mosquitto."""
    from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage

    broker = Broker(folder)
    questions: list[bytes] = []

    def take(client: Client, data: object, message: MQTTMessage) -> None:
        questions.append(message.payload + b"\n")

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.connect("127.0.0.1", broker.port)
    client.subscribe("imu/echo/question")
    client.loop_start()

    def send(data: tuple[int, float] | bytes) -> None:
        topic = "imu/echo/answer" if isinstance(data, bytes) else "imu"
        client.publish(topic, _json(data, k))

    try:
        with Firmware(base, k, send, lambda: questions.pop(0) if questions else b""):
            yield f"mqtt://127.0.0.1:{broker.port}/imu?name=s{k}{echo}"
    finally:
        client.loop_stop()
        broker.stop()


def errors(doors: list[Any], echo: str, folder: Path, seconds: float) -> np.ndarray:
    """How far the times of values are from when they were taken, `(ticks, 2)` in seconds."""
    base = time.monotonic()
    with ExitStack() as stack:
        sources = [stack.enter_context(door(base, k, echo, folder)) for k, door in enumerate(doors)]
        options: Any = {"is_fused": True, "keeps_inputs": True, "rate_hz": 100.0}
        with Live(leaky_reference(), sources, **options) as live:
            time.sleep(max(seconds - 10.0, 0.0))
            live.wait_for(round(100 * seconds))
    assert live.kept is not None
    parts = live.kept.parts
    stamps = np.concatenate([part.stamps for part in parts])
    values = np.concatenate([part.inputs["x"] for part in parts])
    valid = np.concatenate([part.valid for part in parts])
    assert live.counters().is_balanced
    assert valid.sum() > 30
    return np.asarray(stamps[valid, None] - base - values[valid])


@pytest.mark.parametrize(
    "doors", [[serial, tcp], pytest.param([udp, mqtt], marks=needs_mosquitto)], ids=["12", "34"]
)
def test_sensors_that_answer_have_no_transport_delay_in_their_times(
    doors: list[Any], tmp_path: Path
) -> None:
    """Two clocks 150 ppm apart behind delays of 30 and 45 ms agree within a sample."""
    found = np.median(errors(doors, "&echo=0.3s", tmp_path, 3.0), axis=0)
    assert found == pytest.approx([0.0, 0.0], abs=SAMPLE_S)


def test_without_questions_the_delay_stays(tmp_path: Path) -> None:
    """The same sensors: this is what the questions take out."""
    found = np.median(errors([serial, tcp], "", tmp_path, 1.0), axis=0)
    assert found == pytest.approx(DELAYS_S, abs=SAMPLE_S)


@pytest.mark.skipif("EDGELSTM_REALTIME" not in os.environ, reason="by hand: EDGELSTM_REALTIME=1")
def test_with_echo_within_one_sample_after_30_s(tmp_path: Path) -> None:
    """With a question a second, as it is without more being said."""
    found = np.abs(errors([serial, tcp], "&echo", tmp_path, 60.0))[3000:]
    assert np.quantile(found, 0.999) < SAMPLE_S


def _asked(echo: Echo, now: float = 1.0) -> bytes:
    return echo.question(now).split()[1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_answers_are_told_from_lines_cut_anywhere(size: int) -> None:
    """Samples come through as they are, and no byte of an unfinished sample waits."""
    echo = Echo(1.0)
    one, other = _asked(echo, 1.0), _asked(echo, 2.0)
    text = b"1,2\n#echo " + one + b" 5000 5001\r\n# a comment\n3,4#echo 9\n#echo " + other
    text += b" 6000.5 6000.5\n#other\n5,"
    kept = b""
    for start in range(0, len(text), size):
        kept += echo.without_answers(text[start : start + size], 3.0)
    assert kept == b"1,2\n# a comment\n3,4#echo 9\n#other\n5,"
    assert echo.trips(1e-3) == (
        RoundTrip(1.0, 5.0, 5.001, 3.0),
        RoundTrip(2.0, 6.0005, 6.0005, 3.0),
    )
    assert not echo.refused()


@pytest.mark.parametrize(
    "answer",
    [
        b"#echo 1",
        b"#echo 1 2",
        b"#echo 1 nan nan",
        b"#echo 1 1e5 1e5",
        b"#echo 99 1 1",
        b"#echo -1 1 1",
        b"#echo 1 " + b"9" * 1000 + b" 1",
        b"#echo 1 \xff 1",
        b"#echo " + b"1" * 10_000,
    ],
)
def test_what_is_no_answer_is_counted(answer: bytes) -> None:
    """As a message, and as a line; a second answer to one question is none."""
    echo = Echo(1.0)
    _asked(echo)
    assert echo.answer(answer, 2.0)
    assert not echo.trips(1.0)
    assert echo.refused() == {NO_ANSWER: 1}
    line = echo.without_answers(answer + b"\n", 2.0)
    assert bool(line) != bool(echo.refused())
    assert not echo.trips(1.0)
    assert echo.answer(b"#echo 1 5 6", 2.0)
    assert echo.answer(b"#echo 1 5 6", 2.0)
    assert len(echo.trips(1.0)) == 1
    assert echo.refused() == {NO_ANSWER: 1}


def test_what_is_asked_and_never_answered_is_forgotten() -> None:
    """Over days nothing grows."""
    echo = Echo(1.0)
    for k in range(10_000):
        _asked(echo, float(k))
    assert len(echo._open) < 100


@pytest.mark.parametrize(
    ("text", "is_alone", "message"),
    [
        ("udp://:9000?echo", True, "this one is alone: leave it out"),
        ("tcp://h:9000?echo=1s&format=struct:<2f", False, "cannot be told from packed samples"),
        ("serial:/dev/x?echo&format=packed:<2f", False, "cannot be told from packed samples"),
        ("udp://:9000?echo=soon", False, "the option echo is 'soon', expected a duration"),
        ("udp://:9000?echo=0s", False, "expected a duration above 0"),
    ],
)
def test_echo_where_it_means_nothing_is_refused(text: str, is_alone: bool, message: str) -> None:
    """By name."""
    context = SourceContext(leaky_reference().signature, Description(), is_alone=is_alone)
    with pytest.raises(RecordingError, match=message):
        open_source(text, context)


def test_a_connection_that_breaks_is_not_asked_any_more() -> None:
    """The questions end with it; the source goes on."""
    echo = Echo(0.001)
    asked: list[bytes] = []

    async def look() -> None:
        async def write(question: bytes) -> None:
            asked.append(question)
            raise BrokenPipeError

        async with echo.asking(write):
            await asyncio.sleep(0.05)

    asyncio.run(look())
    assert len(asked) == 1


def test_samples_without_stamps_are_not_asked_about(tmp_path: Path) -> None:
    """It is said, and they are counted as without `echo`."""
    ports = [free_port(socket.SOCK_DGRAM) for _ in range(2)]
    sources = [
        f"udp://127.0.0.1:{port}?format=ndjson&name=s{k}&echo" for k, port in enumerate(ports)
    ]
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            while not over.wait(0.01):
                for k, port in enumerate(ports):
                    link.sendto(b'{"x[%d]": 0.5}' % k, ("127.0.0.1", port))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with Live(leaky_reference(), sources, is_fused=True, rate_hz=100.0) as live:
            live.wait_for(10)
            wait_until(lambda: any("no time stamps" in e.text for e in live.events))
    finally:
        over.set()
        sender.join()
