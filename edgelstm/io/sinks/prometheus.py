"""`prometheus://:9100`: counters and newest outputs for Prometheus to fetch, by its own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.errors import OutputError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.columns import names_of
from edgelstm.io.counters import Counters
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination

PORT = 9464
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


def open_sink(address: Address, context: SinkContext) -> PrometheusSink:
    """The sink of an address.

    Raises:
        TargetUnavailableError: prometheus_client is not installed.
    """
    return PrometheusSink(address, context)


class PrometheusSink(Destination):
    """Serves `/metrics`.

    Args:
        address: `prometheus://host:port`; without a host, on this machine alone.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        options.finish()
        self.name = address.shown
        self._place = (address.host or "127.0.0.1", address.port or PORT)
        self._client: Any = load_extra("prometheus_client", "prometheus", "Prometheus sinks")
        core = load_extra("prometheus_client.core", "prometheus", "Prometheus sinks")
        self._registry = self._client.CollectorRegistry()
        self._delay = self._client.Histogram(
            "edgelstm_delay_seconds",
            "From the arrival of a sample to its prediction",
            ["stream"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._tables = context.tables
        self._model = context.model
        self._newest: dict[str, Predictions] = {}
        self._events: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._registry.register(_Collector(core, self._read))
        self._server: Any = None
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Serve.

        Raises:
            OutputError: the port is taken.
        """
        host, port = self._place
        try:
            self._server, self._thread = self._client.start_http_server(
                port, addr=host, registry=self._registry
            )
        except OSError as exc:
            raise OutputError(f"{self.name}: cannot serve at {host}:{port}: {exc}") from exc

    def write(self, predictions: Predictions) -> int:
        """Take note of rows."""
        now = time.monotonic()
        delays = self._delay.labels(predictions.stream)
        for arrival in predictions.arrival.tolist():
            delays.observe(max(now - arrival, 0.0))
        with self._lock:
            self._newest[predictions.stream] = predictions
        return -1

    def tell(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            key = (event.stream, event.kind)
            self._events[key] = self._events.get(key, 0) + 1

    async def close(self) -> None:
        """End serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._thread is not None:
            self._thread.join(5.0)

    def _read(self) -> _State:
        with self._lock:
            newest, events = dict(self._newest), dict(self._events)
        return _State(self._model.name, self._model.model_id, self._tables(), newest, events)


@dataclass(frozen=True, slots=True)
class _State:
    """What there is to tell at one moment."""

    artifact: str
    model_id: str
    tables: Mapping[str, Counters]
    newest: Mapping[str, Predictions]
    events: Mapping[tuple[str, str], int]


class _Collector:
    """Makes metrics when they are fetched."""

    def __init__(self, core: Any, read: Callable[[], _State]) -> None:
        self._core = core
        self._read = read

    def collect(self) -> Iterator[Any]:
        """All metrics; called in the server's thread."""
        core = self._core
        state = self._read()
        info = core.InfoMetricFamily("edgelstm_artifact", "The model that runs")
        info.add_metric([], {"name": state.artifact, "model": state.model_id})
        yield info
        tables = list(state.tables.items())
        for name, attribute, text in (
            ("samples", "seen", "Samples that came in"),
            ("fed", "fed", "Samples that went into the model"),
            ("filled", "filled", "Of these, those that were made"),
            ("predictions", "predictions", "Predictions"),
        ):
            family = core.CounterMetricFamily(f"edgelstm_{name}", text, labels=["stream"])
            for stream, table in tables:
                family.add_metric([stream], getattr(table, attribute))
            yield family
        waiting = core.GaugeMetricFamily("edgelstm_waiting", "In queues", labels=["stream"])
        dropped = core.CounterMetricFamily(
            "edgelstm_dropped", "Samples that were not fed", labels=["stream", "reason"]
        )
        for stream, table in tables:
            waiting.add_metric([stream], table.waiting)
            for reason, count in list(table.dropped.items()):
                dropped.add_metric([stream, reason], count)
        yield waiting
        yield dropped
        happened = core.CounterMetricFamily("edgelstm_events", "Events", labels=["stream", "kind"])
        for (stream, kind), count in state.events.items():
            happened.add_metric([stream, kind], count)
        yield happened
        yield from self._newest(state.newest)

    def _newest(self, newest: Mapping[str, Predictions]) -> Iterator[Any]:
        core = self._core
        labels = ["stream"]
        age = core.GaugeMetricFamily(
            "edgelstm_last_sample_age_seconds", "Of the newest sample", labels=labels
        )
        valid = core.GaugeMetricFamily("edgelstm_valid", "Whether the newest is", labels=labels)
        quality = core.GaugeMetricFamily("edgelstm_quality", "Of the newest", labels=labels)
        output = core.GaugeMetricFamily(
            "edgelstm_output", "Newest outputs", labels=["stream", "output"]
        )
        now = time.monotonic()
        for stream, predictions in newest.items():
            age.add_metric([stream], now - float(predictions.arrival[-1]))
            valid.add_metric([stream], float(predictions.valid[-1]))
            quality.add_metric([stream], float(predictions.quality[-1]))
            for name, values in predictions.outputs.items():
                row = np.asarray(values[-1], np.float64).reshape(-1)
                shape = values.shape[1:]
                names = names_of(name, shape)
                for element, value in zip(names, row.tolist(), strict=True):
                    output.add_metric([stream, element], value)
        yield age
        yield valid
        yield quality
        yield output
