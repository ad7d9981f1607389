"""`edgelstm doctor` says what is there, what is missing, and how to get it."""

from __future__ import annotations

import json
import os
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from edgelstm import machine_checks
from edgelstm.machine_checks import State, check_clock, check_disk, check_extras, check_serial_ports
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference


class Wheel(Distribution):
    """A distribution with two extras."""

    def read_text(self, filename: str) -> str | None:
        """Its metadata."""
        if filename != "METADATA":
            return None
        return (
            "Name: edgelstm\nVersion: 1\n"
            "Requires-Dist: numpy>=1.24\n"
            "Requires-Dist: numpy>=1.24; extra == 'there'\n"
            "Requires-Dist: no-such-package-0[x]>=1; extra == 'away'\n"
            "Requires-Dist: no-such-package-1; extra == 'dev'\n"
        )

    def locate_file(self, path: Any) -> Any:
        """Nowhere in particular."""
        return Path(path)


def test_extras_are_there_or_missing_with_the_line_that_installs_them() -> None:
    """As the distribution says; the tools of development are nobody's business."""
    there, away = check_extras(Wheel())
    assert (there.subject, there.state) == ("extra there", State.OK)
    assert (away.subject, away.state) == ("extra away", State.MISSING)
    assert "no-such-package-0" in away.text
    assert "[away]" in away.remedy
    assert away.remedy.startswith("pip install")


def test_a_port_that_may_not_be_opened_is_said_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be opened is fine; none is fine, too."""
    (tmp_path / "ttyUSB0").touch()
    assert check_serial_ports([f"{tmp_path}/ttyUSB*"])[0].state is State.OK
    assert check_serial_ports([f"{tmp_path}/ttyACM*"])[0].text == "none"
    monkeypatch.setattr(os, "access", lambda *_: False)
    (check,) = check_serial_ports([f"{tmp_path}/ttyUSB*"])
    assert check.state is State.WARNING
    assert "usermod -aG" in check.remedy


@pytest.mark.parametrize(
    ("is_set", "state"), [(True, State.OK), (False, State.WARNING), (None, State.WARNING)]
)
def test_a_clock_that_nobody_sets_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, is_set: bool | None, state: State
) -> None:
    """Whether the kernel says so, or says nothing."""
    monkeypatch.setattr(machine_checks, "_is_clock_synchronized", lambda: is_set)
    assert check_clock().state is state


def test_the_kernel_is_asked_without_harm() -> None:
    """The real question has an answer, or none."""
    assert machine_checks._is_clock_synchronized() in (True, False, None)


def test_a_disk_that_is_nearly_full_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders that are not there yet are judged by the one they will be in."""
    assert check_disk(tmp_path / "a" / "b").state is State.OK
    monkeypatch.setattr(machine_checks, "LEAST_FREE_BYTES", 1 << 62)
    assert check_disk(tmp_path).state is State.WARNING


def test_artifacts_are_loaded_and_run(tmp_path: Path) -> None:
    """A whole one is ok; a damaged one is a fault, and the exit code says so."""
    path = tmp_path / "toy.edgelstm"
    leaky_reference().save(path)
    result = invoke("doctor", path, "--folder", tmp_path)
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "runs here" in result.stdout
    bad = tmp_path / "bad.edgelstm"
    bad.write_bytes(path.read_bytes()[:-100])
    result = invoke("doctor", path, bad, "--json")
    assert result.exit_code == 1
    checks = json.loads(result.stdout)["checks"]
    assert [check["state"] for check in checks if "artifact" in check["subject"]] == ["ok", "fault"]
