"""Live runs in a thread, with a sink that keeps what it gets, and peers to talk to them."""

from __future__ import annotations

import os
import socket
import threading
import time
import tty
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.io.counters import Counters
from edgelstm.io.live import SinkContext
from edgelstm.io.live_run import LiveRun
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.settings import LiveSettings, StreamSettings

PATIENCE_S = 20.0


def wait_until(is_so: Callable[[], bool], what: str = "it") -> None:
    """Wait for something that another thread or process brings about."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


class Kept:
    """A sink in memory.

    Args:
        context: of the run.
    """

    name = "kept"

    def __init__(self, context: SinkContext) -> None:
        self.context = context
        self.parts: list[Predictions] = []
        self.events: list[Event] = []
        self.keeps_inputs = False
        self.waiting = 0
        self.lost: Mapping[str, int] = {}
        self.trouble = ""

    async def open(self) -> None:
        """Nothing to do."""

    def write(self, predictions: Predictions) -> int:
        """Keep rows."""
        self.parts.append(predictions)
        return int(predictions.sequence[-1])

    def tell(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def poll(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


class Live:
    """A live run in a thread; ends with the block, and raises what the run raised.

    Args:
        model: what is run.
        inputs: addresses, of one stream each, or of one together.
        outputs: addresses.
        is_fused: they feed one stream together.
        keeps_inputs: predictions carry what the model was fed.
        columns: that feed the model.
        settings: others.
    """

    def __init__(
        self,
        model: Artifact,
        inputs: Sequence[str],
        outputs: Sequence[str] = (),
        is_fused: bool = False,
        keeps_inputs: bool = False,
        **settings: Any,
    ) -> None:
        alone = tuple(StreamSettings((text,)) for text in inputs)
        streams = (StreamSettings(tuple(inputs)),) if is_fused else alone
        self.kept: Kept | None = None
        self._keeps_inputs = keeps_inputs
        self.run = LiveRun(
            model,
            LiveSettings(streams, tuple(outputs), **settings),
            more_sinks=[self._keep],
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def _keep(self, context: SinkContext) -> Kept:
        self.kept = Kept(context)
        self.kept.keeps_inputs = self._keeps_inputs
        return self.kept

    def _work(self) -> None:
        try:
            self.run.run()
        except BaseException as exc:
            self._error = exc

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._error is not None and error is None:
            raise self._error

    def finish(self) -> None:
        """Wait until the sources end by themselves."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the run did not end"

    @property
    def events(self) -> list[Event]:
        """So far."""
        return [] if self.kept is None else list(self.kept.events)

    def kinds(self) -> list[str]:
        """Of the events so far."""
        return [event.kind for event in self.events]

    def rows(self) -> int:
        """Predictions so far."""
        return 0 if self.kept is None else sum(map(len, self.kept.parts))

    def wait_for(self, rows: int) -> None:
        """Until there are so many predictions."""
        wait_until(lambda: self.rows() >= rows or self._error is not None, f"{rows} predictions")

    def wait_for_event(self, kind: str) -> None:
        """Until something happened."""
        wait_until(lambda: kind in self.kinds() or self._error is not None, kind)

    def column(self, name: str) -> np.ndarray:
        """One array of all predictions: `sequence`, `flags`, ..., or an output."""
        assert self.kept is not None
        parts = [
            getattr(part, name) if hasattr(part, name) else part.outputs[name]
            for part in self.kept.parts
        ]
        return np.concatenate(parts)

    def counters(self, stream: str | None = None) -> Counters:
        """Of the only stream, or of the one named."""
        assert self.run.pump is not None
        tables = self.run.pump.tables
        return tables[stream] if stream is not None else next(iter(tables.values()))


class Wire:
    """A serial line: a pseudo terminal, at whose other end a test writes."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def write(self, data: bytes) -> None:
        """Send bytes, all of them."""
        while data:
            data = data[os.write(self.master, data) :]

    def pull(self) -> None:
        """Pull the cable: the port is gone."""
        os.close(self.master)
        os.close(self._slave)

    def close(self) -> None:
        """End."""
        self.pull()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send_datagrams(port: int, messages: Sequence[bytes]) -> None:
    """To this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message, ("127.0.0.1", port))


def samples(count: int, seed: int = 0) -> np.ndarray:
    """Values `(count, 2)` for the leaky sum, as float32."""
    return np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)


def csv_lines(values: np.ndarray) -> bytes:
    """A line a sample."""
    return "".join(f"{a},{b}\n" for a, b in values).encode()
