"""Settings of a live run out of a TOML file; whatever is wrong is named with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from edgelstm.errors import RecordingError
from edgelstm.io.address import parse_seconds
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
        self._file = file

    def settings(self) -> FileSettings:
        data = self._known(self._file.values, _TOP, ())
        values: dict[str, Any] = {}
        columns = self._names(data, "columns", ())
        if columns:
            values["columns"] = columns
        self._put(values, "rate_hz", self._number(data, "rate", low=0.0))
        self._put(values, "speed", self._number(data, "speed", low=0.0))
        self._put(values, "reset_every", self._count(data, "reset-every"))
        self._put(values, "queue_samples", self._count(data, "queue"))
        self._put(values, "silence_s", self._seconds(data, "silence"))
        self._put(values, "restart_gap_s", self._seconds(data, "restart-gap"))
        policy = self._word(data, "on-bad-sample", [policy.value for policy in BadSamplePolicy])
        self._put(values, "policy", None if policy is None else BadSamplePolicy(policy))
        queue = self._word(data, "queue-policy", [policy.value for policy in QueuePolicy])
        self._put(values, "queue_policy", None if queue is None else QueuePolicy(queue))
        if "realtime" in data:
            if not isinstance(data["realtime"], bool):
                self._refuse(("realtime",), data["realtime"], "true or false")
            values["is_realtime"] = data["realtime"]
        time = read_time(self._path, self._file)
        self._put(values, "time", time or None)
        artifact = data.get("artifact")
        if artifact is not None and not isinstance(artifact, str):
            self._refuse(("artifact",), artifact, "the path of an artifact")
        return FileSettings(
            None if artifact is None else self._path.parent / artifact,
            self._streams(data),
            self._addresses(data, "outputs", ()),
            values,
        )

    def _streams(self, data: Mapping[str, Any]) -> tuple[StreamSettings, ...]:
        streams = []
        inputs = self._addresses(data, "inputs", ())
        if inputs:
            streams.append(StreamSettings(inputs))
        tables = data.get("stream", [])
        if not isinstance(tables, list) or not all(isinstance(item, dict) for item in tables):
            self._refuse(("stream",), tables, "tables, [[stream]]")
        for i, raw in enumerate(tables):
            where = ("stream", i)
            table = self._known(raw, _STREAM, where)
            own = self._addresses(table, "inputs", where)
            if not own:
                self._fail(where, 'a stream has inputs: inputs = ["udp://:9000"]')
            streams.append(
                StreamSettings(
                    own,
                    self._text_of(table, "name", where),
                    self._text_of(table, "patient", where),
                    self._names(table, "columns", where),
                )
            )
        return tuple(streams)

    def _addresses(
        self, data: Mapping[str, Any], key: str, where: tuple[str | int, ...]
    ) -> tuple[str, ...]:
        values = data.get(key, [])
        values = [values] if isinstance(values, (str, dict)) else values
        if not isinstance(values, list):
            self._refuse((*where, key), values, "a list of addresses")
        return tuple(self._address(value, (*where, key)) for value in values)

    def _address(self, value: Any, where: tuple[str | int, ...]) -> str:
        """An address, or a table of its parts: `{uri = "udp://:9000", format = "ndjson"}`."""
        if isinstance(value, str):
            return self._from_here(value)
        if not isinstance(value, dict) or not isinstance(value.get("uri"), str):
            self._refuse(where, value, 'an address, or {uri = "...", option = value}')
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
                self._refuse(where, item, f"text, a number or a list of names for {name}")
            options.append(f"{quote(name)}={quote(text, safe='/:<>,+#')}")
        uri = self._from_here(value["uri"])
        separator = "&" if "?" in uri else "?"
        return uri + separator + "&".join(options) if options else uri

    def _from_here(self, text: str) -> str:
        """A path relative to the folder of the file."""
        for scheme in ("file:", "store:", "parquet:", "fhir:"):
            if text.startswith(scheme) and not text.startswith(scheme + "//"):
                rest = text.removeprefix(scheme)
                return scheme + str(self._path.parent / rest) if rest else text
        is_path = ":" not in text and text != "-"
        return str(self._path.parent / text) if is_path else text

    def _known(
        self, data: Mapping[str, Any], names: Sequence[str], where: tuple[str | int, ...]
    ) -> dict[str, Any]:
        """A table with its keys as they are documented; others are refused."""
        known = {}
        for key, value in data.items():
            name = key.replace("_", "-")
            if name not in names:
                self._fail(
                    (*where, key), f"no setting is named {key!r}; there are: {', '.join(names)}"
                )
            known[name] = value
        return known

    def _names(
        self, data: Mapping[str, Any], key: str, where: tuple[str | int, ...]
    ) -> tuple[str, ...]:
        names = data.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._refuse((*where, key), names, 'a list of names, ["ax", "ay"]')
        return tuple(names)

    def _text_of(self, data: Mapping[str, Any], key: str, where: tuple[str | int, ...]) -> str:
        text = data.get(key, "")
        if not isinstance(text, str):
            self._refuse((*where, key), text, "text")
        return str(text)

    def _number(self, data: Mapping[str, Any], key: str, low: float) -> float | None:
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > low:
            self._refuse((key,), value, f"a number above {low:g}")
        return float(value)

    def _count(self, data: Mapping[str, Any], key: str) -> int | None:
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self._refuse((key,), value, "an integer from 1")
        return int(value)

    def _seconds(self, data: Mapping[str, Any], key: str) -> float | None:
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return parse_seconds(value)
            except ValueError as exc:
                self._refuse((key,), value, str(exc))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            self._refuse((key,), value, "seconds, or text such as 500ms")
        return float(value)

    def _word(self, data: Mapping[str, Any], key: str, words: Sequence[str]) -> str | None:
        value = data.get(key)
        if value is not None and value not in words:
            self._refuse((key,), value, f"one of {', '.join(words)}")
        return value

    @staticmethod
    def _put(values: dict[str, Any], name: str, value: Any) -> None:
        if value is not None:
            values[name] = value

    def _refuse(self, where: Sequence[str | int], found: Any, expected: str) -> NoReturn:
        self._fail(where, f"{where[-1]} is {found!r}, expected {expected}")

    def _fail(self, where: Sequence[str | int], message: str) -> NoReturn:
        raise RecordingError(f"{self._file.where(*where)}: {message}")
