"""A unit of systemd for a run that is to last for weeks.

Source: systemd.service(5), systemd.exec(5), systemd.syntax(7)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WATCHDOG_S = 60
STOP_S = 30

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """What a unit says.

    Args:
        name: of the service, without a suffix.
        command: program and arguments, the program with its whole path.
        folder: where it runs.
        user: who runs it; of a system unit only.
        is_of_user: whether it is a unit of a user's own manager.
        groups: that it joins, for devices; of a system unit only.
    """

    name: str
    command: Sequence[str]
    folder: Path
    user: str = ""
    is_of_user: bool = False
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not is_service_name(self.name):
            raise ValueError(f"{self.name!r} is no name of a service")

    @property
    def file_name(self) -> str:
        """Name of the file that it stands in."""
        return f"{self.name}.service"

    def text(self) -> str:
        """The unit file."""
        lines = [
            "[Unit]",
            f"Description=edgelstm {self.name}",
            "After=network-online.target time-sync.target",
            "Wants=network-online.target",
            "# Whatever happens in weeks, it is started again.",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={' '.join(quoted(word) for word in self.command)}",
            f"WorkingDirectory={escaped(str(self.folder))}",
            "Environment=PYTHONUNBUFFERED=1",
            "Restart=on-failure",
            "RestartSec=5",
            f"WatchdogSec={WATCHDOG_S}",
            "KillSignal=SIGTERM",
            f"TimeoutStopSec={STOP_S}",
            "NoNewPrivileges=yes",
        ]
        if self.user:
            lines.append(f"User={self.user}")
        if not self.is_of_user:
            if self.groups:
                lines.append(f"SupplementaryGroups={' '.join(self.groups)}")
            lines += [
                "ProtectSystem=yes",
                "ProtectKernelTunables=yes",
                "ProtectControlGroups=yes",
            ]
        target = "default.target" if self.is_of_user else "multi-user.target"
        return "\n".join([*lines, "", "[Install]", f"WantedBy={target}", ""])


def is_service_name(name: str) -> bool:
    """Whether systemd and a file system take it."""
    return _NAME.fullmatch(name) is not None


def escaped(text: str) -> str:
    """A text in which nothing is a specifier."""
    return text.replace("%", "%%")


def quoted(word: str) -> str:
    """One word of a command line: no variable, no specifier, no end of the word in it."""
    text = escaped(word).replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    return text if re.fullmatch(r"[\w@%+=:,./\-$]+", text) else f'"{text}"'
