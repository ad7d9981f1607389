"""The door: which module serves the scheme of an address, here or in another package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from edgelstm.errors import RecordingError, TargetUnavailableError
from edgelstm.io.address import Address, parse_address, split_scheme

if TYPE_CHECKING:
    from edgelstm.io.live import LiveSink, LiveSource, SinkContext, SourceContext

SOURCE_GROUP = "edgelstm.sources"
SINK_GROUP = "edgelstm.sinks"
"""Groups of entry points: the name is the scheme, the value a function like those below."""

SOURCES: Mapping[str, str] = {
    "file": "edgelstm.io.sources.replay_file:open_source",
    "stdin": "edgelstm.io.sources.standard_input:open_source",
    "serial": "edgelstm.io.sources.serial_port:open_source",
    "mqtt": "edgelstm.io.sources.mqtt:open_source",
    "mqtts": "edgelstm.io.sources.mqtt:open_source",
    "lsl": "edgelstm.io.sources.lsl:open_source",
    "udp": "edgelstm.io.sources.udp:open_source",
    "tcp": "edgelstm.io.sources.tcp:open_source",
    "ble": "edgelstm.io.sources.ble:open_source",
}
SINKS: Mapping[str, str] = {
    "file": "edgelstm.io.sinks.text_file:open_sink",
    "stdout": "edgelstm.io.sinks.text_file:open_sink",
    "store": "edgelstm.io.sinks.store.sink:open_sink",
    "parquet": "edgelstm.io.sinks.parquet:open_sink",
    "mqtt": "edgelstm.io.sinks.mqtt:open_sink",
    "mqtts": "edgelstm.io.sinks.mqtt:open_sink",
    "lsl": "edgelstm.io.sinks.lsl:open_sink",
    "udp": "edgelstm.io.sinks.udp:open_sink",
    "prometheus": "edgelstm.io.sinks.prometheus:open_sink",
    "fhir": "edgelstm.io.sinks.fhir:open_sink",
}

OpenSource = Callable[[Address, "SourceContext"], "LiveSource"]
OpenSink = Callable[[Address, "SinkContext"], "LiveSink"]


def is_address(text: str, table: Mapping[str, str], group: str) -> bool:
    """Whether an input or output is an address; everything else is the path of a file, or `-`.

    Raises:
        RecordingError: it looks like an address of a scheme that nobody serves.
    """
    parts = split_scheme(text)
    if parts is None:
        return False
    if parts[0] in table or parts[0] in _entries(group):
        return True
    if parts[1].startswith("//"):
        raise RecordingError(
            f"{text}: no scheme is named {parts[0]!r}; there are: {', '.join(_known(table, group))}"
        )
    return False


def is_source_address(text: str) -> bool:
    """Whether an input is an address; see `is_address`."""
    return is_address(text, SOURCES, SOURCE_GROUP)


def is_sink_address(text: str) -> bool:
    """Whether an output is an address; see `is_address`."""
    return is_address(text, SINKS, SINK_GROUP)


def open_source(text: str, context: SourceContext) -> LiveSource:
    """The source of an address, of a path or of `-`; nothing is read yet.

    Raises:
        RecordingError: the address is wrong.
        TargetUnavailableError: its package is not installed.
    """
    if text == "-":
        text = "stdin:"
    address = parse_address(text) if is_source_address(text) else Address(text, "file", text)
    opener = cast("OpenSource", _load(address.scheme, SOURCES, SOURCE_GROUP))
    return opener(address, context)


def open_sink(text: str, context: SinkContext) -> LiveSink:
    """The sink of an address, of a path or of `-`; nothing is written yet.

    Raises:
        RecordingError: the address is wrong.
        OutputError: it cannot be written to.
        TargetUnavailableError: its package is not installed.
    """
    if text == "-":
        text = "stdout:"
    address = parse_address(text) if is_sink_address(text) else Address(text, "file", text)
    opener = cast("OpenSink", _load(address.scheme, SINKS, SINK_GROUP))
    return opener(address, context)


def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def _known(table: Mapping[str, str], group: str) -> list[str]:
    return sorted({*table, *_entries(group)})


def _load(scheme: str, table: Mapping[str, str], group: str) -> Any:
    if scheme in table:
        module, _, attribute = table[scheme].partition(":")
        return getattr(import_module(module), attribute)
    entry = _entries(group)[scheme]
    try:
        return entry.load()
    except Exception as exc:  # a plug-in may fail in any way
        raise TargetUnavailableError(
            f"the scheme {scheme!r} comes from {entry.value.partition('.')[0]!r}, which cannot be "
            f"loaded ({type(exc).__name__}: {exc}): repair or remove that package"
        ) from exc
