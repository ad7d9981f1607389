"""The sketch in `examples/echo_sensor`, compiled for this machine and asked at three doors."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgelstm.description import Description
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.numbering import GROUP
from edgelstm.io.registry import open_source
from tests.live.harness import PATIENCE_S, Wire, free_port
from tests.unit.runtime.toy_models import leaky_reference

COMPILER = shutil.which("g++")
SKETCH = Path(__file__).parents[2] / "examples" / "echo_sensor" / "echo_sensor.ino"
HERE = Path(__file__).with_name("arduino_on_this_machine.h")
TRIPS = 3

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++: apt-get install g++")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the sketch."""
    path = tmp_path_factory.mktemp("echo") / "device"
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Werror", "-O1", "-include", str(HERE))
    command = [str(COMPILER), *flags, "-x", "c++", str(SKETCH), "-o", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


@contextmanager
def _running(device: Path, descriptor: int) -> Iterator[None]:
    process = subprocess.Popen([device], stdin=descriptor, stdout=descriptor)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _serial(device: Path) -> Iterator[str]:
    wire = Wire()
    with _running(device, wire.master):
        yield f"serial:{wire.path}?start=keep&"
    wire.close()


@contextmanager
def _tcp(device: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        server.settimeout(PATIENCE_S)

        def accept() -> None:
            link = stack.enter_context(server.accept()[0])
            stack.enter_context(_running(device, link.fileno()))

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}?"
        thread.join()


@contextmanager
def _udp(device: Path) -> Iterator[str]:
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.1", port))
        with _running(device, link.fileno()):
            yield f"udp://127.0.0.1:{port}?format=csv&"


@pytest.mark.parametrize("door", [_serial, _tcp, _udp])
def test_the_sketch_answers(door: object, device: Path) -> None:
    """Each question, between samples that lose nothing by it; its clock here is this machine's."""
    model = leaky_reference()
    context = SourceContext(model.signature, Description(), is_alone=False)

    async def look(address: str) -> tuple[list[RoundTrip], list[np.ndarray], dict[str, int]]:
        trips: list[RoundTrip] = []
        values: list[np.ndarray] = []
        refused: dict[str, int] = {}
        blocks = open_source(f"{address}columns=time_us,x&echo=20ms", context).blocks()
        async with asyncio.timeout(PATIENCE_S):
            while len(trips) < TRIPS:
                item = await anext(blocks)
                if isinstance(item, Delivery):
                    trips += item.echoes
                    refused |= item.refused
                    values += [] if item.block is None else [item.block.frames[GROUP]]
        await blocks.aclose()
        return trips, values, refused

    with door(device) as address:  # type: ignore[operator]
        trips, values, refused = asyncio.run(look(address))
    assert not refused
    for trip in trips:
        assert trip.sent <= trip.received <= trip.replied <= trip.returned
    assert set(np.concatenate(values).ravel()) == {1034.0}
