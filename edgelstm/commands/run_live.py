"""`edgelstm run` with live sources and sinks: what it shows while it runs, and at its end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgelstm.artifact import Artifact
from edgelstm.commands.report import format_ns, print_json, say
from edgelstm.errors import RecordingError
from edgelstm.io.address import split_file
from edgelstm.io.registry import is_sink_address, is_source_address
from edgelstm.io.settings import LiveSettings
from edgelstm.outputs import STANDARD, check_output
from edgelstm.printable import printable

if TYPE_CHECKING:
    from edgelstm.io.live_run import LiveRun
    from edgelstm.io.predictions import Event

LIVE_ONLY = (
    *("rate", "realtime", "speed", "silence", "queue", "queue_policy"),
    *("on_gap", "gap_limit", "gap_after", "reorder", "resample", "offset", "scale", "decode"),
)
"""Options that only the live pipeline has."""

RECORDING_ONLY: Mapping[str, str] = {
    "keep": "predictions of a live run carry stream, sample number and time",
    "no_header": "say it in the address: file:walk.csv?header=no",
    "decimal": "say it in the address: serial:...?decimal=,",
    "input_format": "say it in the address: tcp://...?format=ndjson",
    "output_format": "say it in the address: stdout:?format=csv",
    "state_file": "a store keeps the state with the predictions: --output store:FILE",
    "resume": "a store is always gone on with: --output store:FILE",
    "state_every": "a store commits every 0.5 s: --output store:FILE?every=2s",
}
"""Options of recordings, with what stands in their place."""


def is_live(inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    """Whether sources and sinks are those of the live pipeline.

    Raises:
        RecordingError: an address has a scheme that nobody serves.
    """
    has_source = [text for text in inputs if is_source_address(text)]
    has_sink = [text for text in outputs if is_sink_address(text)]
    return bool(has_source or has_sink) or len(inputs) > 1 or len(outputs) > 1


def run_live(
    model: Artifact, settings: LiveSettings, protect: Sequence[Any], quiet: bool, as_json: bool
) -> None:
    """Run to the end, and say what happened."""
    from edgelstm.io.live_run import LiveRun  # asyncio is not for runs of recordings

    _expect_apart(settings, protect)
    screen = _Screen(quiet or as_json)
    run = LiveRun(model, settings, screen.event, screen.look)
    try:
        run.run()
    finally:
        screen.clear()
        summary = run.summary()
        if summary is not None and not quiet and not as_json:
            _print_summary(summary)
    if as_json:
        print_json(summary, err=any(text in (STANDARD, "stdout:") for text in settings.outputs))


def _expect_apart(settings: LiveSettings, protect: Sequence[Any]) -> None:
    """No output is something that is read."""
    inputs = [text for stream in settings.streams for text in stream.inputs]
    read = [*protect, *(path for path in map(_path, inputs) if path)]
    written: list[str] = []
    for text in settings.outputs:
        path = _path(text)
        if path:
            check_output(path, [*read, *written], RecordingError)
            written.append(path)


def _path(text: str) -> str:
    """The file of an input or output; "" where it is none."""
    return split_file(text)[1]


class _Screen:
    """One line on a terminal that says how it goes; events as lines of their own.

    Args:
        is_quiet: nothing is shown.
    """

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._shown = 0
        self._start = time.monotonic()
        self._last = (self._start, 0)

    def event(self, event: Event) -> None:
        """Show an event."""
        if self._is_quiet:
            return
        self.clear()
        stream = f"{event.stream}: " if event.stream and event.stream not in event.text else ""
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        say(f"{clock} {stream}{event.kind}: {event.text}", err=True)

    def look(self, run: LiveRun) -> None:
        """Show how it goes."""
        if self._is_quiet or not self._is_terminal or run.pump is None:
            return
        text = self._line(run)
        width = max(shutil.get_terminal_size().columns - 1, 20)
        text = printable(text, keep="")[:width]
        sys.stderr.write(f"\r{text.ljust(self._shown)}")
        sys.stderr.flush()
        self._shown = len(text)

    def clear(self) -> None:
        """Make room for a line."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0

    def _line(self, run: LiveRun) -> str:
        pump = run.pump
        assert pump is not None
        now = time.monotonic()
        tables = pump.tables.values()
        seen = sum(counters.seen for counters in tables)
        dropped = sum(counters.dropped.total() for counters in tables)
        waiting = sum(counters.waiting for counters in tables)
        before, count = self._last
        rate = (seen - count) / max(now - before, 1e-6)
        self._last = (now, seen)
        parts = [f"{seen} in, {rate:.0f}/s"]
        if dropped:
            parts.append(f"{dropped} dropped")
        if waiting:
            parts.append(f"{waiting} waiting")
        labels = [lane.last_label for lane in pump.lanes.values() if lane.last_label]
        if len(labels) == 1:
            parts.append(labels[0])
        shares = [source.progress for source in pump.sources if source.progress is not None]
        if shares and 0 < min(shares) < 1:
            left = (now - self._start) * (1 / min(shares) - 1)
            parts.insert(0, f"{100 * min(shares):.0f} %, {left:.0f} s left")
        name = run.model.name if len(pump.lanes) != 1 else next(iter(pump.lanes))
        return f"{name}: {', '.join(parts)}"


def _print_summary(summary: Mapping[str, Any]) -> None:
    text = f"{summary['predictions']} predictions"
    if summary["predictions"]:
        text += f", {format_ns(summary['ns_per_step'])} a step"
    say(text, err=True)
    for name, table in summary["streams"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in table["dropped"].items())
        line = f"  {name}: {table['in']} in = {table['fed']} fed"
        line += f" + {sum(table['dropped'].values())} dropped"
        line += f" ({dropped})" if dropped else ""
        if table["waiting"]:
            line += f" + {table['waiting']} waiting"
        if table["filled"]:
            line += f"; {table['filled']} filled in"
        noted = ", ".join(f"{count} {what}" for what, count in table["noted"].items())
        say(line + (f"; {noted}" if noted else ""), err=True)
    for name, lost in summary["not_delivered"].items():
        say(f"  {name}: not delivered: {dict(lost) or 'rows that wait'}", err=True)
