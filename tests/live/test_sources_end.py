"""What a source holds open is closed when the run ends, whichever way it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edgelstm.description import Description
from edgelstm.io.live import SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.registry import open_source
from edgelstm.io.sources import threads
from tests.live.brokers import Broker, needs_mosquitto
from tests.live.harness import PATIENCE_S, Wire, free_port, wait_until
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference


def open_here() -> list[str]:
    """What this process has open."""
    folder = "/proc/self/fd"
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(os.path.join(folder, name)))
        except OSError:
            continue  # it was the list itself
    return sorted(text for text in found if not text.startswith("/proc/"))


def test_a_recording_is_closed_when_the_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader stands in the middle of the file when the first block is refused."""
    monkeypatch.setattr(threads, "AHEAD", 1)
    artifact, walk = tmp_path / "a.edgelstm", tmp_path / "walk.csv"
    leaky_reference().save(artifact)
    walk.write_text("x[0],x[1]\n" + "0.5,0.25\n" * 40_000, encoding="utf-8")
    output = f"file:{tmp_path}/o.csv"
    result = invoke("run", artifact, "-i", f"file:{walk}", "-o", output, "--scale", "zz=2")
    assert "no column 'zz'" in result.stderr
    assert str(walk) not in open_here()
    assert not [each.name for each in threading.enumerate() if each.name.startswith("replay")]


@contextmanager
def _serial(folder: Path) -> Iterator[str]:
    port = Wire()
    try:
        yield f"serial:{port.path}"
    finally:
        port.close()


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    broker = Broker(folder)
    try:
        yield f"mqtt://127.0.0.1:{broker.port}/imu"
    finally:
        broker.stop()


@contextmanager
def _recording(folder: Path) -> Iterator[str]:
    path = folder / "walk.csv"
    path.write_text("x[0],x[1]\n" + "0.5,0.25\n" * 40_000, encoding="utf-8")
    yield f"file:{path}"


@contextmanager
def _silent_input(folder: Path) -> Iterator[str]:
    """Standard input that brings one line and then nothing, and stays open."""
    there, here = os.pipe()
    os.write(here, b"0.5,0.25\n")
    with pytest.MonkeyPatch.context() as patch, os.fdopen(there) as standard:
        patch.setattr(sys, "stdin", standard)
        yield "stdin:"
    os.close(here)


@pytest.mark.parametrize(
    "door",
    [_serial, _server, pytest.param(_broker, marks=needs_mosquitto), _recording, _silent_input],
)
def test_a_source_that_is_closed_at_once_leaves_nothing_open(
    door: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed behind the first thing that it says, in a loop that goes on."""
    monkeypatch.setattr(threads, "AHEAD", 1)
    model = leaky_reference()
    context = SourceContext(model.signature, Description())

    async def look(text: str) -> None:
        before = open_here()
        blocks = open_source(text, context).blocks()
        await asyncio.wait_for(anext(blocks), PATIENCE_S)
        began = time.monotonic()
        await blocks.aclose()
        assert time.monotonic() - began < 0.9 * threads.END_S
        await asyncio.sleep(0)
        assert not Counter(open_here()) - Counter(before)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with ExitStack() as stack, asyncio.Runner() as runner:
        text = stack.enter_context(door(tmp_path))  # type: ignore[operator]
        running = threading.active_count()
        runner.run(asyncio.sleep(0))
        runner.run(look(text))
        assert threading.active_count() <= running + 1  # a resolver of names may stay


def test_a_server_that_ends_lets_go_of_who_is_connected() -> None:
    """In a loop that goes on: connections are closed, and nobody serves them any more."""
    model = leaky_reference()
    port = free_port()
    context = SourceContext(model.signature, Description())

    async def look() -> None:
        source = open_source(f"tcp://127.0.0.1:{port}?listen=yes", context)
        blocks = source.blocks()
        first = asyncio.ensure_future(anext(blocks))
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.01)
        await asyncio.wait_for(first, PATIENCE_S)
        await blocks.aclose()
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        assert asyncio.all_tasks() == {asyncio.current_task()}
        writer.close()

    asyncio.run(look())


def test_a_silent_lsl_stream_is_let_go() -> None:
    """The thread that waits for its samples ends, though none ever comes."""
    lsl = pytest.importorskip("pylsl")
    name = f"silent{os.getpid()}"
    outlet = lsl.StreamOutlet(lsl.StreamInfo(name, "IMU", 2, 100.0, "float32", name))
    context = SourceContext(leaky_reference().signature, Description())

    async def look() -> None:
        blocks = open_source(f"lsl:name={name}", context).blocks()
        async for item in blocks:
            assert isinstance(item, Event)
            if item.kind == "connected":
                break
        await blocks.aclose()

    asyncio.run(asyncio.wait_for(look(), PATIENCE_S))
    wait_until(lambda: not any(each.name == f"lsl {name}" for each in threading.enumerate()))
    del outlet
