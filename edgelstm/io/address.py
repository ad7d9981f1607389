"""Addresses of sources and sinks: `scheme:rest?option=value`, and the options in them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import unquote

from edgelstm.errors import RecordingError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):(.*)", re.DOTALL)
_TRUE = ("", "1", "yes", "true", "on")
_FALSE = ("0", "no", "false", "off")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(us|ms|s|min|h)?")
_SECONDS = {None: 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}

Default = TypeVar("Default")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a source or sink is.

    Args:
        text: as the user wrote it.
        scheme: in small letters.
        host: of `//host:port/path`, without user and password; "" where there is none.
        port: None where none is given.
        path: what follows, or all of `scheme:path`.
        user: of `//user:password@host`.
        password: the same; never shown.
        options: behind the question mark, unquoted.
    """

    text: str
    scheme: str
    path: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The address without its options and password: a name to go by."""
        if not self.host and self.port is None:
            return f"{self.scheme}:{self.path}"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


_OF_FILES = ("file", "store", "parquet", "fhir")
"""Schemes whose addresses name a file."""


def is_url(text: str) -> bool:
    """Whether what stands where a file might is the address of a server on the web."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def split_file(text: str) -> tuple[str, str, str]:
    """What stands in front of the file that an input or output names, the file, and the options.

    The file is "" where it names none.
    """
    parts = split_scheme(text)
    if parts is None:
        return ("", text, "") if text != "-" else (text, "", "")
    path, mark, options = parts[1].partition("?")
    if parts[0] not in _OF_FILES or path.startswith("//") or is_url(path):
        return text, "", ""
    return f"{parts[0]}:", path, mark + options


def split_scheme(text: str) -> tuple[str, str] | None:
    """Scheme and rest of an address; None of a plain path, also one of Windows (`C:\\walk.csv`)."""
    found = _SCHEME.fullmatch(text)
    return (found.group(1).lower(), found.group(2)) if found else None


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        RecordingError: it is malformed.
    """
    parts = split_scheme(text)
    if parts is None:
        raise RecordingError(f"{text!r} is no address: it begins with a scheme, as in udp://:9000")
    scheme, rest = parts
    rest, _, query = rest.partition("?")
    options = _parse_options(query, text)
    if not rest.startswith("//"):
        return Address(text, scheme, unquote(rest), options=options)
    place, slash, path = rest[2:].partition("/")
    login, _, server = place.rpartition("@")
    user, _, password = login.partition(":")
    host, port = _parse_server(server, text)
    return Address(
        text, scheme, unquote(slash + path), host, port, unquote(user), unquote(password), options
    )


def split_rate(text: str) -> tuple[str, float | None]:
    """The address of a source without `rate=HZ`, and the rate of its samples.

    Raises:
        RecordingError: the rate is none.
    """
    place, _, query = text.partition("?")
    items = query.split("&")
    others = [item for item in items if not item.startswith("rate=")]
    if len(others) == len(items):
        return text, None
    options = Options(parse_address(text))
    rate_hz = options.number("rate", 0.0)
    if not rate_hz:
        raise RecordingError(f"{_without_password(text)}: the rate is 0 Hz, expected more")
    return place + ("?" + "&".join(others) if others else ""), rate_hz


def _parse_options(query: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        name = unquote(name)
        if name in options:
            raise RecordingError(f"{_without_password(text)}: the option {name!r} stands twice")
        options[name] = unquote(value)
    return options


def _parse_server(server: str, text: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:]*)(?::([0-9]+))?", server)
    port = found.group(2) if found else None
    if found is None or (port is not None and not 0 <= int(port) <= 65535):
        raise RecordingError(
            f"{_without_password(text)}: {server!r} is no host:port (an IPv6 address stands in "
            "brackets, a port is at most 65535)"
        )
    return unquote(found.group(1).strip("[]")), None if port is None else int(port)


def _without_password(text: str) -> str:
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", text)


class Options:
    """Takes the options of an address one by one; what nobody took is an error.

    Args:
        address: whose options.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._left = dict(address.options)
        self._known: list[str] = []

    def text(self, name: str, default: Default) -> str | Default:
        """An option as it stands."""
        self._known.append(name)
        return self._left.pop(name, default)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of several words."""
        value = self.text(name, default)
        if value not in choices:
            raise self._error(name, value, f"one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: Default, low: float = 0.0) -> float | Default:
        """A number."""
        text = self.text(name, None)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            raise self._error(name, text, "a number") from None
        if not low <= value < float("inf"):
            raise self._error(name, text, f"a number from {low:g}")
        return value

    def integer(
        self, name: str, default: Default, low: int = 0, high: int = 1 << 31
    ) -> int | Default:
        """An integer."""
        text = self.text(name, None)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise self._error(name, text, f"an integer from {low} to {high}")
        return int(text)

    def seconds(self, name: str, default: Default) -> float | Default:
        """A duration: `0.5`, `500ms`, `10min`."""
        text = self.text(name, None)
        return default if text is None else self._seconds(name, text)

    def period(self, name: str, usual: float) -> float | None:
        """A time between two of something; None without the option, or where it is refused.

        Args:
            name: of the option; alone, or with yes, it means the usual time.
            usual: in seconds.
        """
        text = self.text(name, None)
        if text is None or text.lower() in _FALSE:
            return None
        seconds = usual if text.lower() in _TRUE[:1] + _TRUE[2:] else self._seconds(name, text)
        if seconds == 0:
            raise self._error(name, str(text), "a duration above 0")
        return seconds

    def _seconds(self, name: str, text: str) -> float:
        try:
            return parse_seconds(text)
        except ValueError as exc:
            raise self._error(name, text, str(exc)) from None

    def flag(self, name: str, default: bool = False) -> bool:
        """Yes or no; the bare name means yes."""
        text = self.text(name, None)
        if text is None:
            return default
        if text.lower() not in (*_TRUE, *_FALSE):
            raise self._error(name, text, "yes or no")
        return text.lower() in _TRUE

    def names(self, name: str) -> tuple[str, ...]:
        """Names separated by commas."""
        text = self.text(name, "")
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def secret(self, name: str) -> str:
        """A password: out of the address, an environment variable or a file, in this order."""
        variable = self.text(f"{name}_env", None)
        path = self.text(f"{name}_file", None)
        if self._address.password:
            return self._address.password
        if variable is not None:
            if variable not in os.environ:
                raise self._error(f"{name}_env", variable, "an environment variable that is set")
            return os.environ[variable]
        if path is not None:
            try:
                with open(path, encoding="utf-8") as file:
                    return file.readline().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as exc:
                raise self._error(f"{name}_file", path, f"a file to read ({exc})") from exc
        return ""

    def finish(self) -> None:
        """All that are known have been taken.

        Raises:
            RecordingError: there are more.
        """
        for name in self._left:
            known = ", ".join(sorted(self._known)) or "none"
            raise RecordingError(
                f"{self._address.shown}: no option is named {name!r}; there are: {known}"
            )

    def _error(self, name: str, found: str, expected: str) -> RecordingError:
        return RecordingError(
            f"{self._address.shown}: the option {name} is {found!r}, expected {expected}"
        )


def parse_seconds(text: str) -> float:
    """A duration with or without a unit.

    Raises:
        ValueError: it is none; the message says what is expected.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("a duration such as 0.5, 500ms, 2s, 10min or 1h")
    return float(found.group(1)) * _SECONDS[found.group(2)]
