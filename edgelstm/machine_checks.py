"""What a machine has and lacks for runs that last: packages, ports, clock, disk."""

from __future__ import annotations

import ctypes
import glob
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

from edgelstm.install_hint import install_hint
from edgelstm.version import VERSION

LEAST_FREE_BYTES = 500 * 2**20
"""A store of one stream at 100 Hz grows by about that in a week."""

SERIAL_PORTS = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/ttyAMA*", "/dev/serial0", "/dev/rfcomm*")

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_TIME_ERROR = 5


class State(StrEnum):
    """How something is."""

    OK = "ok"
    MISSING = "missing"  # an option that is not there
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        subject: what.
        state: how it is.
        text: what was found.
        remedy: what to do, a command where there is one.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


def check_installation() -> list[Check]:
    """Versions of what is always there, and whether this machine compiles."""
    python = f"{platform.python_version()} ({sys.executable})"
    checks = [
        Check("edgelstm", State.OK, VERSION),
        Check("python", State.OK, python),
        Check("numpy", State.OK, version("numpy")),
    ]
    try:
        checks.append(Check("compiler", State.OK, version("edgelstm-compiler")))
    except PackageNotFoundError:
        text = "not installed: artifacts come from another machine"
        checks.append(Check("compiler", State.MISSING, text, install_hint("compiler")))
    return checks


def check_extras(found: Distribution | None = None) -> list[Check]:
    """Each extra of the runtime: whether all its packages are there."""
    try:
        found = distribution("edgelstm") if found is None else found
    except PackageNotFoundError:
        text = "edgelstm lies on the path without being installed: its extras are not known"
        return [Check("extras", State.WARNING, text, install_hint())]
    packages: dict[str, list[str]] = {}
    for requirement in found.requires or ():
        extra, name = _EXTRA.search(requirement), _REQUIREMENT.match(requirement)
        if extra and name and extra[1] != "dev":
            packages.setdefault(extra[1], []).append(name[1])
    checks = []
    for extra_name, names in packages.items():
        missing = [name for name in names if not _is_installed(name)]
        subject = f"extra {extra_name}"
        if missing:
            text = f"{', '.join(missing)} not installed"
            checks.append(Check(subject, State.MISSING, text, install_hint(extra_name)))
        else:
            text = ", ".join(f"{name} {version(name)}" for name in names)
            checks.append(Check(subject, State.OK, text))
    return checks


def check_serial_ports(patterns: Iterable[str] = SERIAL_PORTS) -> list[Check]:
    """The serial ports of this machine, and whether this user may open them."""
    ports = sorted({path for pattern in patterns for path in glob.glob(pattern)})
    checks = []
    for port in ports:
        if os.access(port, os.R_OK | os.W_OK):
            checks.append(Check(f"port {port}", State.OK, "can be opened"))
            continue
        group = _group_of(port)
        remedy = f"sudo usermod -aG {group} $USER, and log in again" if group else ""
        checks.append(Check(f"port {port}", State.WARNING, "may not be opened", remedy))
    return checks or [Check("serial ports", State.OK, "none")]


def check_clock() -> Check:
    """Whether the kernel knows this machine's clock to be set by another one."""
    is_set = _is_clock_synchronized()
    if is_set is None:
        return Check("clock", State.WARNING, "nobody says whether it is synchronized")
    if is_set:
        return Check("clock", State.OK, "synchronized")
    text = "not synchronized: times of predictions may be wrong, and jump"
    return Check("clock", State.WARNING, text, "sudo timedatectl set-ntp true")


def check_disk(folder: Path) -> Check:
    """Whether there is room, and whether this user may write."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    subject = f"disk {folder}"
    try:
        usage = shutil.disk_usage(place)
    except OSError as exc:
        return Check(subject, State.FAULT, f"cannot be looked at: {exc.strerror}")
    text = f"{usage.free / 2**30:.1f} GB free of {usage.total / 2**30:.1f} GB"
    if not os.access(place, os.W_OK):
        return Check(subject, State.WARNING, f"{text}, and may not be written by this user")
    if usage.free < LEAST_FREE_BYTES:
        return Check(subject, State.WARNING, f"{text}: a store fills that within days")
    return Check(subject, State.OK, text)


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (KeyError, OSError, NotImplementedError):
        return ""


def _is_clock_synchronized() -> bool | None:
    """What adjtimex(2) says; None where there is none."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError, TypeError):
        return None
    # struct timex is about 200 bytes; modes = 0 asks and changes nothing.
    state = int(adjtimex(ctypes.create_string_buffer(512)))
    return None if state < 0 else state != _TIME_ERROR
