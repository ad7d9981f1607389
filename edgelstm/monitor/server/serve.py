"""The run and the server in one event loop, from their beginning to a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgelstm.artifact import Artifact
from edgelstm.errors import OutputError
from edgelstm.io.live import LiveSink, SinkContext
from edgelstm.io.live_run import LiveRun
from edgelstm.io.predictions import Event
from edgelstm.io.settings import LiveSettings
from edgelstm.monitor.insight import Explainer, can_explain
from edgelstm.monitor.server.access import Access
from edgelstm.monitor.server.app import Pages
from edgelstm.monitor.server.clinical import Clinical
from edgelstm.monitor.server.hub import Hub
from edgelstm.monitor.server.insights import Insights

SLOW_S = 10.0
"""How long a browser may take for the head of a request."""

MOST_CONNECTIONS = 256
MOST_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the page is served.

    Args:
        host, port: where; port 0 is any.
        store: file of the store.
        tokens: role by token; empty for this machine alone.
        certificate, key: files of TLS; None for none.
        is_demo: simulated patients are shown.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    store: Path = Path("monitor.db")
    tokens: dict[str, str] = field(default_factory=dict)
    certificate: Path | None = None
    key: Path | None = None
    is_demo: bool = False


class PatientProtocol(H11Protocol):
    """HTTP that ends connections which never come to say what they want."""

    def connection_made(self, transport: Any) -> None:
        """Somebody is there."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(SLOW_S, self._look)
        self._is_waiting = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._watch.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """What follows is no HTTP."""
        self._watch.cancel()
        super().handle_websocket_upgrade(event)

    def _look(self) -> None:
        is_waiting = self.conn.their_state is h11.IDLE
        if is_waiting and (self._is_waiting or self.cycle is None):
            self.transport.abort()
            return
        self._is_waiting = is_waiting
        self._watch = self.loop.call_later(SLOW_S, self._look)


class _Server(uvicorn.Server):
    """Signals are the run's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


class MonitorRun:
    """A live run with its page.

    Args:
        model: what is run.
        settings: how; the store is added to its outputs.
        options: how the page is served.
        said: called with each event of the run.
        ready: called with the page's address.
        reference: the same model with target `reference`, whose gates the page shows.
    """

    def __init__(
        self,
        model: Artifact,
        settings: LiveSettings,
        options: ServerOptions,
        said: Callable[[Event], None] = lambda event: None,
        ready: Callable[[str], None] = lambda address: None,
        reference: Artifact | None = None,
    ) -> None:
        self.options = options
        self.hub: Hub | None = None
        self._explainer = Explainer(model, reference) if can_explain(model) else None
        self._said = said
        self._ready = ready
        self._clinical: Clinical | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.run = LiveRun(model, settings, self._tell, more_sinks=[self._make_hub])

    def serve(self) -> None:
        """Until a signal, or `stop`; the page stays when the sources have ended.

        Raises:
            EdgeLSTMError: the run cannot go on, or nothing can listen there.
        """
        asyncio.run(self._serve())

    def stop(self) -> None:
        """End gracefully; from any thread."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)

    def _make_hub(self, context: SinkContext) -> LiveSink:
        self.hub = Hub(context, self.options.is_demo)
        return self.hub

    def _tell(self, event: Event) -> None:
        if self._clinical is not None:
            self._clinical.see(event)
        self._said(event)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._listen()
        listener = self._bind()
        running = asyncio.create_task(self.run.serve())
        try:
            while not running.done() and (self.hub is None or not self.hub.is_open):
                await asyncio.sleep(0.005)
            if self.hub is None or running.done():
                await running
            assert self.hub is not None
            self._clinical = Clinical(self.options.store, self.hub, self.run)
            await self._clinical.open()
            await self._serve_pages(listener, running)
        finally:
            listener.close()
            self.run.stop()
            try:
                await running
            finally:
                if self._clinical is not None:
                    await self._clinical.close()

    async def _serve_pages(self, listener: socket.socket, running: asyncio.Task[None]) -> None:
        options, hub, clinical = self.options, self.hub, self._clinical
        assert hub is not None
        assert clinical is not None
        assert self._stop is not None
        access = Access(options.tokens, options.certificate is not None)
        config = uvicorn.Config(
            Pages(hub, clinical, access, Insights(hub, self._explainer)).app(),
            http=PatientProtocol,
            ws="websockets-sansio",
            ws_max_size=MOST_MESSAGE,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16 * 1024,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(self._stop.wait())
        port = listener.getsockname()[1]
        scheme = "http" if options.certificate is None else "https"
        host = f"[{options.host}]" if ":" in options.host else options.host
        self._ready(f"{scheme}://{host}:{port}/")
        try:
            waiting = {serving, stopping, running}
            while True:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if running in done:
                    running.result()  # an error of the run ends the page with it
                    waiting.discard(running)
                if serving in done or stopping in done:
                    break
        finally:
            stopping.cancel()
            for client in list(hub.clients):
                hub.leave(client)
            server.should_exit = True
            await serving

    def _bind(self) -> socket.socket:
        options = self.options
        try:
            family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((options.host, options.port))
                listener.listen(128)
            except BaseException:
                listener.close()
                raise
        except OSError as exc:
            raise OutputError(
                f"cannot serve at {options.host}:{options.port}: {exc.strerror or exc}; give "
                "another --host or --port"
            ) from exc
        return listener

    def _listen(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self._loop.add_signal_handler(number, self._stop.set)
