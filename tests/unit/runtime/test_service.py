"""Runs as a service: the unit, the watchdog, and the container."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelstm.service_unit import ServiceUnit
from edgelstm.watchdog import Watchdog
from tests.unit.runtime.command_line import invoke

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration in a folder whose name needs quoting."""
    folder = tmp_path / "ward 3 100%"
    folder.mkdir()
    path = folder / "ward3.toml"
    path.write_text("", encoding="utf-8")
    return path


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it is asked, and a home of its own."""
    log = tmp_path / "systemctl.log"
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {log}\n', encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return log


def test_dry_run_prints_a_unit_with_a_watchdog_and_changes_nothing(
    config: Path, systemctl: Path
) -> None:
    """The whole unit on stdout; systemd is not asked."""
    result = invoke("service", "install", "--config", config, "--dry-run")
    assert result.exit_code == 0, result.stderr
    for line in ("Type=notify", "WatchdogSec=60", "Restart=on-failure", "KillSignal=SIGTERM"):
        assert line in result.stdout.splitlines()
    assert f'"{config}"'.replace("%", "%%") in result.stdout
    assert not systemctl.exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("options", [[], ["--user"], ["--run-as", "root"]])
def test_systemd_takes_the_unit(config: Path, tmp_path: Path, options: list[str]) -> None:
    """No line of it is unknown to systemd, whatever the path of the configuration is."""
    unit = invoke("service", "install", "--config", config, "--dry-run", *options).stdout
    path = tmp_path / "edgelstm-ward3.service"
    path.write_text(unit, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if path.name in line]
    assert not own, done.stderr


def test_install_writes_enables_and_starts_and_remove_takes_it_away(
    config: Path, systemctl: Path, tmp_path: Path
) -> None:
    """A service of the user's own, in the folder that systemd reads."""
    path = tmp_path / "home" / "systemd" / "user" / "edgelstm-ward3.service"
    result = invoke("service", "install", "--config", config, "--user")
    assert result.exit_code == 0, result.stderr
    assert "ExecStart=" in path.read_text(encoding="utf-8")
    assert "User=" not in path.read_text(encoding="utf-8")
    assert systemctl.read_text(encoding="utf-8").splitlines() == [
        "--user daemon-reload",
        "--user enable edgelstm-ward3.service",
        "--user restart edgelstm-ward3.service",
    ]
    result = invoke("service", "remove", "--name", "edgelstm-ward3", "--user")
    assert result.exit_code == 0, result.stderr
    assert not path.exists()
    assert invoke("service", "remove", "--name", "edgelstm-ward3", "--user").exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a/b"], "letters, digits"),
        (["--user", "--run-as", "ward"], "--run-as"),
        (["--run-as", "a\nb"], "no name of a user"),
    ],
)
def test_what_would_write_another_unit_is_refused(
    config: Path, arguments: list[str], message: str
) -> None:
    """Names go into paths and lines: they are names."""
    result = invoke("service", "install", "--config", config, "--dry-run", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_words_of_the_command_are_quoted() -> None:
    """Specifiers, variables, quotes and line ends stay in their word."""
    unit = ServiceUnit("x", ["/bin/run", 'a b"%n$HOME\n'], Path("/a %i"))
    assert 'ExecStart=/bin/run "a b\\"%%n$$HOME\\n"' in unit.text()
    assert "WorkingDirectory=/a %%i\n" in unit.text()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket like systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.setblocking(False)
        yield found


def test_a_watchdog_is_told_twice_in_its_time(manager: socket.socket) -> None:
    """Ready, beats at half the interval, and stopping."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "60000000"}
    watchdog = Watchdog({**environ, "WATCHDOG_PID": str(os.getpid())})
    watchdog.ready("two\nlines")
    assert manager.recv(1000) == b"READY=1\nSTATUS=two lines"
    for now in range(0, 65, 5):
        watchdog.beat(float(now))
    beats = [manager.recv(1000) for _ in range(3)]
    assert beats == [b"WATCHDOG=1"] * 3
    watchdog.stopping()
    assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "x"},
    ],
)
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """A run in a terminal, and one whose manager is gone, go on."""
    watchdog = Watchdog(environ)
    watchdog.ready()
    watchdog.beat(0.0)
    watchdog.stopping()


def test_a_watchdog_of_another_process_is_not_fed() -> None:
    """A child that inherits the variables does not keep its parent alive."""
    assert Watchdog({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).interval_s is None


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with what stands behind them."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def test_the_dockerfile_installs_what_there_is() -> None:
    """Copied files exist and are let through, extras are the project's, Python is new enough."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = instructions()
    known = "FROM ARG WORKDIR COPY RUN USER VOLUME ENV STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
    assert {word for word, _ in found} <= set(known.split())
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for sources in [rest.split()[:-1] for word, rest in found if word == "COPY"]:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed
    extras = next(rest for word, rest in found if rest.startswith("EXTRAS="))
    assert set(extras.split('"')[1].split(",")) <= set(project["optional-dependencies"])
    image = re.fullmatch(r"python:3\.(\d+)-slim", dict(found)["FROM"])
    least = re.search(r">=3\.(\d+)", project["requires-python"])
    assert image is not None
    assert least is not None
    assert int(image[1]) >= int(least[1])


def test_the_container_runs_a_command_that_there_is_as_nobody_special() -> None:
    """Exec form, so that SIGTERM arrives; not root; the health check is the doctor."""
    found = dict(instructions())
    entry = json.loads(found["ENTRYPOINT"])
    command = json.loads(found["CMD"])
    assert found["USER"] not in ("", "root", "0")
    assert entry == ["edgelstm"]
    assert invoke(*command[:1], "--help").exit_code == 0
    check = json.loads(found["HEALTHCHECK"].partition("CMD")[2])
    assert invoke(*check[1:2], "--help").exit_code == 0
