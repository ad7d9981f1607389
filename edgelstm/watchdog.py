"""Telling systemd that a run is ready, alive, or ending; without systemd nothing is told.

Source: sd_notify(3), sd_watchdog_enabled(3)
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

_MOST_BYTES = 2048


class Watchdog:
    """The service manager of this process, where it has one.

    Args:
        environ: where its address stands.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._next: float | None = None
        self.interval_s = _interval(environ)

    @property
    def is_there(self) -> bool:
        """Whether somebody listens."""
        return self._address[:1] in ("/", "@")

    def ready(self, status: str = "") -> None:
        """The run has begun."""
        self._send("READY=1", status)

    def beat(self, now: float, status: str = "") -> None:
        """Still alive; to be called often, sent twice in the time that the manager allows.

        Args:
            now: seconds of a monotonic clock.
            status: one line for `systemctl status`.
        """
        if self.interval_s is None or (self._next is not None and now < self._next):
            return
        self._next = now + self.interval_s
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """The run ends; what is left may take a while."""
        self._send("STOPPING=1")

    def _send(self, message: str, status: str = "") -> None:
        if not self.is_there:
            return
        line = " ".join(status.split())
        text = f"{message}\nSTATUS={line}" if line else message
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.setblocking(False)
                link.sendto(text.encode()[:_MOST_BYTES], name)
        except OSError:
            # A manager that is gone or busy is no reason to stop a run; it has its own patience.
            return


def _interval(environ: Mapping[str, str]) -> float | None:
    """Half of the time that the manager waits; None where it does not wait for this process."""
    text, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0:
        return None
    if process and process != str(os.getpid()):
        return None
    return int(text) / 2e6
