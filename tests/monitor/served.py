"""A monitor in a thread, over recordings of simulated patients."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from edgelstm.artifact import Artifact
from edgelstm.io.decoding.recipe import read_recipe
from edgelstm.io.settings import LiveSettings, StreamSettings
from edgelstm.io.time_settings import TimeSettings
from edgelstm.monitor.server.serve import MonitorRun, ServerOptions

PATIENCE_S = 60.0


class Served:
    """A monitor at a port of its own; ends with the block, and raises what it raised.

    Args:
        artifact: what is run.
        recordings: by patient; they are repeated.
        store: file of the store.
        decoding: file of the recipe.
        tokens: role by token.
        speed: that many times faster than recorded.
        reference: file of the same model with target `reference`.
        tls: files of a certificate and its key.
    """

    def __init__(
        self,
        artifact: Path,
        recordings: Mapping[str, Path],
        store: Path,
        decoding: Path | None = None,
        tokens: dict[str, str] | None = None,
        speed: float = 1.0,
        reference: Path | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        streams = tuple(
            StreamSettings((f"file:{path}?repeat=1000",), f"stream of {patient}", patient)
            for patient, path in recordings.items()
        )
        time = TimeSettings(decode=None if decoding is None else read_recipe(decoding))
        settings = LiveSettings(
            streams, (f"store:{store}",), is_realtime=True, speed=speed, time=time
        )
        certificate, key = tls or (None, None)
        options = ServerOptions(
            port=0,
            store=store,
            tokens=tokens or {},
            certificate=certificate,
            key=key,
            is_demo=True,
        )
        self.url = ""
        self.monitor = MonitorRun(
            Artifact.load(artifact),
            settings,
            options,
            ready=self._note,
            reference=None if reference is None else Artifact.load(reference),
        )
        self._is_ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def _note(self, address: str) -> None:
        self.url = address.rstrip("/")
        self._is_ready.set()

    def _work(self) -> None:
        try:
            self.monitor.serve()
        except BaseException as exc:
            self._error = exc
        self._is_ready.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._is_ready.wait(PATIENCE_S)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.monitor.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._error is not None and error is None:
            raise self._error
