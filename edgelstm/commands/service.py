"""`edgelstm service`: a run as a service of systemd, started at boot and watched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edgelstm.commands.report import say
from edgelstm.errors import OutputError, TargetUnavailableError
from edgelstm.outputs import write_output
from edgelstm.service_unit import ServiceUnit, is_service_name

SYSTEM_FOLDER = Path("/etc/systemd/system")
DEVICE_GROUPS = ("dialout", "uucp", "bluetooth")


@click.group("service")
def service_command() -> None:
    """Run as a service: started at boot, started again when it fails, watched by systemd.

    \b
    edgelstm service install --config ward3.toml --dry-run
    sudo edgelstm service install --config ward3.toml --run-as ward
    edgelstm service install --config ward3.toml --user
    """


_name_option = click.option(
    "--name", help="Of the service.  [default: edgelstm-, and the name of the configuration]"
)
_user_option = click.option(
    "--user", "is_of_user", is_flag=True, help="A service of this user's own, without root."
)


@service_command.command("install")
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `edgelstm run --config` is given.",
)
@_name_option
@_user_option
@click.option("--run-as", default="", metavar="USER", help="Who runs it, of a system service.")
@click.option("--no-start", is_flag=True, help="Write the unit and enable it, start nothing.")
@click.option("--dry-run", is_flag=True, help="Print the unit, and change nothing.")
def install_command(
    config: Path, name: str | None, is_of_user: bool, run_as: str, no_start: bool, dry_run: bool
) -> None:
    """Write the unit of a run, enable it, and start it."""
    if is_of_user and run_as:
        raise click.UsageError("--user runs as this user: leave --run-as out")
    if run_as and not re.fullmatch(r"[a-z_][a-z0-9_\-]*\$?", run_as):
        raise click.BadParameter(f"{run_as!r} is no name of a user", param_hint="--run-as")
    config = config.resolve()
    unit = ServiceUnit(
        _service_name(name, config),
        [sys.executable, "-m", "edgelstm.cli", "run", "--config", str(config)],
        config.parent,
        run_as,
        is_of_user,
        [] if is_of_user else _device_groups(),
    )
    if dry_run:
        click.echo(unit.text(), nl=False)
        return
    control = _systemctl(is_of_user)
    path = _folder(is_of_user) / unit.file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_output(path, unit.text().encode())
    except (OSError, OutputError) as exc:
        raise OutputError(
            f"cannot write {path} ({exc}): run it as root, or with --user; or see --dry-run"
        ) from exc
    _run([*control, "daemon-reload"])
    _run([*control, "enable", unit.file_name])
    if not no_start:
        _run([*control, "restart", unit.file_name])
    user = " --user" if is_of_user else ""
    say(f"{path} is installed{'' if no_start else ' and runs'}")
    say(f"look at it: systemctl{user} status {unit.name}; journalctl{user} -u {unit.name} -f")
    if is_of_user:
        say("it ends when you log out, unless: loginctl enable-linger")


@service_command.command("remove")
@click.option("--config", type=click.Path(path_type=Path), help="As it was installed.")
@_name_option
@_user_option
def remove_command(config: Path | None, name: str | None, is_of_user: bool) -> None:
    """Stop a service and take its unit away; what it stored stays."""
    if name is None and config is None:
        raise click.UsageError("which service? --name NAME, or --config as it was installed")
    service = _service_name(name, config or Path())
    path = _folder(is_of_user) / f"{service}.service"
    if not path.is_file():
        raise TargetUnavailableError(f"there is no service {service!r}: {path} is not there")
    control = _systemctl(is_of_user)
    _run([*control, "disable", "--now", path.name])
    try:
        path.unlink()
    except OSError as exc:
        raise OutputError(f"cannot remove {path}: {exc.strerror}") from exc
    _run([*control, "daemon-reload"])
    say(f"{path} is removed")


def _service_name(name: str | None, config: Path) -> str:
    if name is None:
        plain = re.sub(r"[^A-Za-z0-9_.\-]+", "-", config.stem).strip("-.") or "run"
        return f"edgelstm-{plain}"[:100]
    name = name.removesuffix(".service")
    if not is_service_name(name):
        raise click.BadParameter(
            f"{name!r}: letters, digits, _, . and -, at most 100", param_hint="--name"
        )
    return name


def _device_groups() -> list[str]:
    """Groups of this machine that may open serial ports and Bluetooth."""
    import grp  # of POSIX only; the dry run works elsewhere, too

    known = {group.gr_name for group in grp.getgrall()}
    return [name for name in DEVICE_GROUPS if name in known]


def _folder(is_of_user: bool) -> Path:
    if not is_of_user:
        return SYSTEM_FOLDER
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user"


def _systemctl(is_of_user: bool) -> list[str]:
    found = shutil.which("systemctl")
    if found is None:
        raise TargetUnavailableError(
            "this machine has no systemd (no systemctl): --dry-run prints the unit, the Dockerfile "
            "is another way"
        )
    return [found, "--user"] if is_of_user else [found]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise TargetUnavailableError(f"{' '.join(command)}: {reason}")
