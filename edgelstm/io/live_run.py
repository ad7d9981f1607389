"""One live run from its settings to its end: sources, streams, sinks, signals, summary."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError, RecordingError
from edgelstm.interruption import STOP_SIGNALS, Interrupted
from edgelstm.io.address import split_rate
from edgelstm.io.counters import Counters
from edgelstm.io.fusion import Sensor
from edgelstm.io.lane import Lane
from edgelstm.io.lane_options import LaneOptions
from edgelstm.io.live import LiveSink, LiveSource, SinkContext, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.pump import Pump, PumpOptions
from edgelstm.io.registry import is_source_address, open_sink, open_source
from edgelstm.io.settings import LiveSettings, StreamSettings
from edgelstm.io.writer import Writer
from edgelstm.sessions import mode_of

_LOOK_S = 0.25


@dataclass(slots=True)
class LiveRun:
    """A run, and what there is to tell about it at any time.

    Args:
        model: what is run.
        settings: how.
        said: called with each event.
        look: called several times a second with the run.
        more_sinks: besides those of the settings, such as a page that shows the run.
    """

    model: Artifact
    settings: LiveSettings
    said: Callable[[Event], None] = lambda event: None
    look: Callable[[LiveRun], None] = lambda run: None
    more_sinks: Sequence[Callable[[SinkContext], LiveSink]] = ()
    pump: Pump | None = None
    _signal: int | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _rates: dict[str, float | None] = field(default_factory=dict)
    _sensors: dict[str, list[Sensor]] = field(default_factory=dict)
    _keeps_inputs: bool = False

    @property
    def sources(self) -> Sequence[LiveSource]:
        """Where samples come from."""
        return () if self.pump is None else self.pump.sources

    def run(self) -> None:
        """Run until the sources end, or a signal asks to.

        Raises:
            EdgeLSTMError: what was predicted before is delivered.
            Interrupted: a signal came before the end of a recording; the same.
        """
        if not mode_of(self.model.signature.mode).has_blocks:
            raise CapabilityError(
                f"{self.model.name!r} was compiled with --mode call, and a live run takes streams: "
                "compile it with --mode stream, or give it recordings (-i FILE)"
            )
        self._expect_fitting()
        asyncio.run(self._serve_with_signals())
        if self._signal is not None and self.pump is not None and self.pump.is_interrupted:
            raise Interrupted(self._signal)

    def _expect_fitting(self) -> None:
        """The model is one that a live run, and this one, can feed.

        Raises:
            CapabilityError: the settings mean nothing for its mode.
        """
        mode = mode_of(self.model.signature.mode)
        if self.settings.reset_every is not None and "reset_every" in mode.refused_options:
            raise CapabilityError(
                f"--reset-every, or reset-every in a file, {mode.why_refused}: leave it out"
            )

    async def _serve_with_signals(self) -> None:
        self._listen()
        await self.serve()

    def stop(self) -> None:
        """End gracefully; from any thread."""
        loop, pump = self._loop, self.pump
        if loop is not None and pump is not None:
            # A loop that is closed has nothing left to stop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(pump.stop)

    async def serve(self) -> None:
        """The same as `run` in an event loop that is there already; it answers no signals."""
        self._expect_fitting()
        writer = Writer()
        self._loop = asyncio.get_running_loop()
        sources = self._open_sources()
        sinks = self._open_sinks(writer, sources)
        settings = self.settings
        self._keeps_inputs = any(getattr(sink, "keeps_inputs", False) for sink in sinks)
        self.pump = pump = Pump(
            sources,
            sinks,
            self._make_lane,
            PumpOptions(settings.queue_samples, settings.queue_policy, settings.silence_s),
            self.said,
            fused=self._fused,
        )
        watcher = asyncio.create_task(self._watch())
        try:
            await pump.run()
        finally:
            watcher.cancel()
            await writer.close()

    def acknowledge(self, stream: str, alarm: str, by: str = "") -> bool:
        """Somebody has seen an alarm; whether there was one to acknowledge. In the run's thread."""
        pump = self.pump
        lane = None if pump is None else pump.lanes.get(stream)
        if pump is None or lane is None or lane.decoder is None:
            return False
        try:
            events = lane.decoder.acknowledge(alarm, time.time(), by)
        except KeyError:
            return False
        for event in events:
            pump.tell(event)
        return bool(events)

    def tell(self, event: Event) -> None:
        """Tell all sinks of something that happened beside the samples. In the run's thread."""
        if self.pump is not None:
            self.pump.tell(event)

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def note(number: int) -> None:
            self._signal = self._signal or number
            if self.pump is not None:
                self.pump.stop()

        for number in STOP_SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                try:
                    loop.add_signal_handler(number, note, number)
                except (NotImplementedError, RuntimeError, ValueError):
                    return  # another thread than the main one, or Windows

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look(self)

    def _open_sources(self) -> list[LiveSource]:
        settings, model = self.settings, self.model
        sources: list[LiveSource] = []
        for stream in settings.streams:
            is_alone = len(stream.inputs) == 1
            own: list[Sensor] = []
            columns = stream.columns or settings.columns
            context = SourceContext(
                model.signature,
                model.description,
                columns,
                self._rate(),
                is_alone=is_alone,
                is_realtime=settings.is_realtime,
                speed=settings.speed,
            )
            for given in stream.inputs:
                text, rate_hz = split_rate(given) if is_source_address(given) else (given, None)
                source = open_source(text, replace(context, rate_hz=rate_hz or context.rate_hz))
                if stream.name and is_alone:
                    source.name = stream.name
                if any(source.name == other.name for other in sources):
                    raise RecordingError(
                        f"two sources are named {source.name!r}, and the name is part of the key "
                        "of their samples: give one another, ?name=NAME"
                    )
                self._columns[source.name] = columns
                sources.append(source)
                if source.is_many and not is_alone:
                    raise RecordingError(
                        f"{text}: brings several streams, and cannot feed one of them together "
                        "with other sensors"
                    )
                if source.is_many and rate_hz is not None:
                    raise RecordingError(
                        f"{given}: brings several streams, whose rate is that of the run: --rate "
                        f"{rate_hz:g}"
                    )
                self._rates[source.name] = rate_hz
                own.append(
                    Sensor(
                        source.name,
                        source.is_replay,
                        source.is_on_our_clock,
                        source.has_echo,
                        rate_hz,
                    )
                )
            if not is_alone:
                name = stream.name or "+".join(sensor.name for sensor in own)
                self._sensors[name] = own
                self._columns[name] = columns
        return sources

    @property
    def _fused(self) -> dict[str, str]:
        """The stream of each sensor that feeds it together with others."""
        return {sensor.name: name for name, sensors in self._sensors.items() for sensor in sensors}

    def _open_sinks(self, writer: Writer, sources: Sequence[LiveSource]) -> list[LiveSink]:
        settings, model = self.settings, self.model
        probe = Lane("", model, self._lane_options(""))
        probe.close()
        context = SinkContext(
            probe.identity,
            model.description,
            self._rate(),
            appends=not all(source.is_replay for source in sources)
            or any(text.startswith("store:") for text in settings.outputs),
            patients=_patients(settings.streams, sources, self._fused),
            tables=self._tables,
            writer=writer,
        )
        own = [open_sink(text, context) for text in settings.outputs]
        return [*own, *(make(context) for make in self.more_sinks)]

    def _make_lane(self, name: str, is_replay: bool, counters: Counters) -> Lane:
        return Lane(name, self.model, self._lane_options(name), is_replay, counters)

    def _lane_options(self, name: str) -> LaneOptions:
        settings = self.settings
        return LaneOptions(
            columns=self._columns.get(name, settings.columns),
            policy=settings.policy,
            reset_every=settings.reset_every,
            rate_hz=self._rates.get(name) or self._rate(),
            keeps_inputs=self._keeps_inputs,
            restart_gap_s=settings.restart_gap_s,
            time=settings.time,
            sensors=self._sensors.get(name, ()),
        )

    def _rate(self) -> float | None:
        model = self.model
        return self.settings.rate_hz or model.signature.rate_hz or model.description.rate_hz

    def _tables(self) -> Mapping[str, Counters]:
        return {} if self.pump is None else dict(self.pump.tables)

    def summary(self) -> dict[str, Any] | None:
        """What happened so far; None before there was anything."""
        pump = self.pump
        if pump is None:
            return None
        tables = {name: counters.to_json() for name, counters in pump.tables.items()}
        lanes = pump.lanes.values()
        predictions = sum(lane.counters.predictions for lane in lanes)
        model_ns = sum(lane.model_ns for lane in lanes)
        return {
            "artifact": self.model.name,
            "engine": dict(self.model.kernel.facts),
            "predictions": predictions,
            "streams": tables,
            "columns": {
                lane.name: {name: list(columns) for name, columns in lane.mapping.items()}
                for lane in lanes
            },
            "on_bad_sample": self.settings.policy.value,
            "ns_per_step": round(model_ns / max(predictions, 1), 1),
            "not_delivered": {
                sink.name: dict(sink.lost) for sink in pump.sinks if sink.lost or sink.waiting
            },
        }


def _patients(
    streams: Sequence[StreamSettings], sources: Sequence[LiveSource], fused: Mapping[str, str]
) -> Mapping[str, str]:
    fed = [stream for stream in streams for _ in stream.inputs]
    named = zip(sources, fed, strict=True)
    return {
        fused.get(source.name, source.name): stream.patient
        for source, stream in named
        if stream.patient
    }
