"""Addresses of sources and sinks: what is one, what is a path, what is wrong with one."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import RecordingError, TargetUnavailableError
from edgelstm.io import registry
from edgelstm.io.address import Address, Options, parse_address, parse_seconds
from edgelstm.io.registry import is_source_address
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference


@pytest.mark.parametrize("text", ["walk.csv", "-", "C:\\data\\walk.csv", "a:b.csv", "./mqtt:x"])
def test_what_is_a_path(text: str) -> None:
    """Also with a colon, as long as nothing before it is a scheme."""
    assert not is_source_address(text)


@pytest.mark.parametrize("text", ["serial:/dev/ttyUSB0", "udp://:9000", "MQTT://host/a", "stdin:"])
def test_what_is_an_address(text: str) -> None:
    """A scheme that is known, in any case."""
    assert is_source_address(text)


def test_a_scheme_that_nobody_serves_is_refused_with_those_that_are() -> None:
    """`amqp://` looks like nothing else."""
    with pytest.raises(RecordingError, match=r"no scheme is named .amqp.; there are: ble, file"):
        is_source_address("amqp://host/queue")


def test_the_parts_of_an_address() -> None:
    """User, password, host, port, path, options; quoted where they need it."""
    address = parse_address("mqtt://me:p%40ss@[::1]:1884/ward/+/imu?qos=1&name=bed%201")
    assert (address.host, address.port, address.path) == ("::1", 1884, "/ward/+/imu")
    assert (address.user, address.password) == ("me", "p@ss")
    assert dict(address.options) == {"qos": "1", "name": "bed 1"}
    assert "p@ss" not in address.shown
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("udp://host:99999", "a port is at most 65535"),
        ("udp://host:port", "is no host:port"),
        ("udp://:9000?a=1&a=2", "the option 'a' stands twice"),
        ("mqtt://me:secret@host:x/a", r"mqtt://me:\*\*\*@host"),
    ],
)
def test_what_is_wrong_with_an_address(text: str, message: str) -> None:
    """It is said, without passwords."""
    with pytest.raises(RecordingError, match=message) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_options_that_nobody_takes_are_refused() -> None:
    """With those that there are."""
    options = Options(parse_address("serial:/dev/x?baud=9600&bauds=1"))
    assert options.integer("baud", 115200) == 9600
    with pytest.raises(RecordingError, match=r"no option is named 'bauds'; there are: baud"):
        options.finish()


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2.0), ("500ms", 0.5), (".5s", 0.5), ("2 min", 120.0), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    """With a unit or in seconds."""
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "address",
    [
        "serial:/dev/ttyUSB0?baud=fast",
        "serial:/dev/ttyUSB0?format=struct:<6q9",
        "serial:/dev/ttyUSB0?format=xml",
        "serial:/dev/ttyUSB0?format=struct:<2f&columns=a",
        "serial:/dev/ttyUSB0?sync=XYZ",
        "serial:",
        "udp://host",
        "tcp://:9000",
        "tcp://host",
        "file:missing.csv",
        "file:?speed=0",
        "udp://:9000?time_unit=h",
    ],
)
def test_a_wrong_address_is_a_users_mistake(tmp_path: Path, address: str) -> None:
    """One message and the exit code of recordings, before anything is opened."""
    leaky_reference().save(tmp_path / "leaky.edgelstm")
    result = invoke("run", tmp_path / "leaky.edgelstm", "-i", address)
    assert result.exit_code == RecordingError.exit_code
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "option", "module", "extra"),
    [
        ("serial:/dev/ttyUSB0", "-i", "serial", "serial"),
        ("mqtt://host/imu", "-i", "aiomqtt", "mqtt"),
        ("lsl:name=IMU", "-i", "pylsl", "lsl"),
        ("ble:AA:BB:CC:DD:EE:FF?characteristic=2a37&format=struct:<h", "-i", "bleak", "ble"),
        ("mqtt://host/out", "-o", "aiomqtt", "mqtt"),
        ("lsl:name=out", "-o", "pylsl", "lsl"),
        ("parquet:out.parquet", "-o", "pyarrow", "parquet"),
        ("prometheus://:9464", "-o", "prometheus_client", "prometheus"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    option: str,
    module: str,
    extra: str,
) -> None:
    """The extra is one of this project's."""
    monkeypatch.setitem(sys.modules, module, None)
    leaky_reference().save(tmp_path / "leaky.edgelstm")
    (tmp_path / "walk.csv").write_text("a,b\n1,2\n")
    source = ["-i", f"file:{tmp_path}/walk.csv"] if option == "-o" else []
    result = invoke("run", tmp_path / "leaky.edgelstm", *source, option, address)
    assert result.exit_code == TargetUnavailableError.exit_code
    assert f"need the package {module}" in result.stderr
    assert f"[{extra}]" in result.stderr
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert extra in project["project"]["optional-dependencies"]


def test_schemes_of_other_packages_are_found_by_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The value is a function like those of the schemes here."""
    entry = EntryPoint("knee", f"{__name__}:_open_knee", registry.SOURCE_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert is_source_address("knee:left")
    opened: Any = registry.open_source("knee:left?rate=5", "context")  # type: ignore[arg-type]
    assert opened == ("left", {"rate": "5"}, "context")


def test_a_scheme_of_a_broken_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of edgelstm's."""
    entry = EntryPoint("knee", "no_such_package.knee:open_source", registry.SOURCE_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    with pytest.raises(TargetUnavailableError, match="comes from 'no_such_package'"):
        registry.open_source("knee:left", "context")  # type: ignore[arg-type]


def _open_knee(address: Address, context: object) -> tuple[str, dict[str, str], object]:
    return address.path, dict(address.options), context
