"""Settings of a live run out of a TOML file; whatever is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgelstm.io.address import split_file
from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.settings import FileSettings, QueuePolicy, StreamSettings
from edgelstm.io.toml_table import TomlTable, read_toml
from edgelstm.io.toml_time import TIME_KEYS, read_time

_TOP = (
    "artifact",
    "inputs",
    "outputs",
    "columns",
    "rate",
    "on-bad-sample",
    "reset-every",
    "realtime",
    "speed",
    "silence",
    "queue",
    "queue-policy",
    "restart-gap",
    "stream",
    *TIME_KEYS,
)
_STREAM = ("name", "patient", "inputs", "columns")


def read_settings(path: Path) -> FileSettings:
    """Read a file; paths in it are relative to its folder.

    Raises:
        RecordingError: it cannot be read, is no TOML, or says something that is no setting.
    """
    return _Reader(path, read_toml(path)).settings()


class _Reader:
    """Reads the tables of one file."""

    def __init__(self, path: Path, file: TomlTable) -> None:
        self._path = path
        self._file = file.with_hyphens()

    def settings(self) -> FileSettings:
        file = self._file
        file.expect_keys(*_TOP)
        policy = file.text("on-bad-sample", None, tuple(each.value for each in BadSamplePolicy))
        queue = file.text("queue-policy", None, tuple(each.value for each in QueuePolicy))
        values: dict[str, Any] = {
            "columns": file.texts("columns") or None,
            "rate_hz": file.number("rate", above=0.0),
            "speed": file.number("speed", above=0.0),
            "reset_every": file.count("reset-every"),
            "queue_samples": file.count("queue"),
            "silence_s": file.seconds("silence"),
            "restart_gap_s": file.seconds("restart-gap"),
            "policy": None if policy is None else BadSamplePolicy(policy),
            "queue_policy": None if queue is None else QueuePolicy(queue),
            "is_realtime": file.flag("realtime", False) if "realtime" in file.values else None,
            "time": read_time(self._path, file) or None,
        }
        artifact = file.text("artifact")
        return FileSettings(
            None if artifact is None else self._path.parent / artifact,
            self._streams(),
            self._addresses(file, "outputs"),
            {name: value for name, value in values.items() if value is not None},
        )

    def _streams(self) -> tuple[StreamSettings, ...]:
        streams = []
        inputs = self._addresses(self._file, "inputs")
        if inputs:
            streams.append(StreamSettings(inputs))
        for table in map(TomlTable.with_hyphens, self._file.tables("stream")):
            table.expect_keys(*_STREAM)
            own = self._addresses(table, "inputs")
            if not own:
                raise table.fault('a stream has inputs: inputs = ["udp://:9000"]')
            streams.append(
                StreamSettings(
                    own,
                    table.text("name") or "",
                    table.text("patient") or "",
                    table.texts("columns"),
                )
            )
        return tuple(streams)

    def _addresses(self, table: TomlTable, key: str) -> tuple[str, ...]:
        values = table.values.get(key, [])
        values = [values] if isinstance(values, (str, dict)) else values
        if not isinstance(values, list):
            raise table.fault(f"is {values!r}, not a list of addresses", key)
        return tuple(self._address(value, table, key) for value in values)

    def _address(self, value: Any, table: TomlTable, key: str) -> str:
        """An address, or a table of its parts: `{uri = "udp://:9000", format = "ndjson"}`."""
        if isinstance(value, str):
            return self._from_here(value)
        if not isinstance(value, dict) or not isinstance(value.get("uri"), str):
            raise table.fault(
                f'holds {value!r}, neither an address nor {{uri = "...", option = value}}', key
            )
        options = []
        for name, item in value.items():
            if name == "uri":
                continue
            if isinstance(item, list) and all(isinstance(each, str) for each in item):
                text = ",".join(item)
            elif isinstance(item, bool):
                text = "yes" if item else "no"
            elif isinstance(item, (str, int, float)):
                text = str(item)
            else:
                raise table.fault(
                    f"{name} is {item!r}, neither text, a number nor a list of names", key
                )
            options.append(f"{quote(name)}={quote(text, safe='/:<>,+#')}")
        uri = self._from_here(value["uri"])
        separator = "&" if "?" in uri else "?"
        return uri + separator + "&".join(options) if options else uri

    def _from_here(self, text: str) -> str:
        """A path relative to the folder of the file."""
        front, path, options = split_file(text)
        return f"{front}{self._path.parent / path}{options}" if path else text
