"""The command `edgelstm`: a click group whose commands are found by entry point.

Errors end here: one message on stderr and the exit code of their class, a traceback only with
`--debug`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from edgelstm.errors import EdgeLSTMError, InternalError, TargetUnavailableError
from edgelstm.install_hint import install_hint
from edgelstm.interruption import Interrupted, termination_as_interrupt
from edgelstm.printable import printable
from edgelstm.version import VERSION

COMMAND_GROUP = "edgelstm.commands"

BUILT_IN = {
    "run": "edgelstm.commands.run:run_command",
    "inspect": "edgelstm.commands.inspect:inspect_command",
    "bench": "edgelstm.commands.bench:bench_command",
    "targets": "edgelstm.commands.targets:targets_command",
    "snapshot": "edgelstm.commands.snapshot:snapshot_command",
    "sign": "edgelstm.commands.sign:sign_command",
    "trust": "edgelstm.commands.trust:trust_command",
    "sbom": "edgelstm.commands.sbom:sbom_command",
    "doctor": "edgelstm.commands.doctor:doctor_command",
    "service": "edgelstm.commands.service:service_command",
    "monitor": "edgelstm.commands.monitor:monitor_command",
    "report-patient": "edgelstm.commands.report_patient:report_patient_command",
    "patients": "edgelstm.commands.patients:patients_command",
    "audit-log": "edgelstm.commands.audit_log:audit_log_command",
    "audit": "edgelstm.commands.audit:audit_command",
}
"""Commands of this package: there also where it lies on the path without being installed."""

COMPILER_COMMANDS = (
    "compile",
    "verify",
    "validate",
    "export-c",
    "demo",
    "calibrate",
    "report",
    "debug",
    "schemes",
)
"""Commands that come with the compiler: not listed where it is not installed, but known."""

_ORDER = ("compile", "inspect", "run", "verify", "validate", "bench", "targets", "demo")
_SIGNALLED = 128
_BROKEN_PIPE = 141


class _ReaderGoneError(Exception):
    """Nobody reads the output any more; a name of ours, because click ends broken pipes itself."""


class CommandGroup(click.Group):
    """Finds commands when they are asked for; a broken one never stands in the way of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order in which they are used."""
        del ctx
        found = set(_find_entries()) | set(BUILT_IN)
        return [name for name in _ORDER if name in found] + sorted(found - set(_ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; one that cannot be loaded says why when it is used."""
        del ctx
        entry = _find_entries().get(cmd_name)
        try:
            if entry is not None:
                command = entry.load()
            elif cmd_name in BUILT_IN:
                module, _, attribute = BUILT_IN[cmd_name].partition(":")
                command = getattr(import_module(module), attribute)
            elif cmd_name in COMPILER_COMMANDS:
                return _absent(cmd_name)
            else:
                return None
        except Exception as exc:  # a plug-in may fail in any way
            return _unavailable(cmd_name, entry, exc)
        if not isinstance(command, click.Command):
            return _unavailable(cmd_name, entry, TypeError(f"{command!r} is no click command"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError as exc:
            raise _ReaderGoneError from exc
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit; errors become messages and exit codes."""
        arguments = list(sys.argv[1:] if args is None else args)
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        is_debug = "--debug" in options or bool(os.environ.get("EDGELSTM_DEBUG"))
        if "--debug" in options:
            arguments.remove("--debug")
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, False, **extra)
        try:
            with termination_as_interrupt():
                result = super().main(arguments, prog_name, complete_var, False, **extra)
            code = result if type(result) is int else 0
        except BaseException as exc:  # whatever it is, it ends as an exit code
            if isinstance(exc, (SystemExit, GeneratorExit)):
                raise
            if is_debug:
                click.echo(printable(traceback.format_exc()), err=True, nl=False)
            code = _report(exc, as_json="--json" in options)
        sys.exit(code)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="edgelstm", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
def cli(debug: bool) -> None:
    """Compile trained recurrent networks ahead of time, and step them over live streams.

    \b
    edgelstm compile model.onnx -o model.edgelstm
    edgelstm run model.edgelstm --input walk.csv --output predictions.csv
    """
    del debug  # taken out of the command line by CommandGroup.main, wherever it stands


def main() -> None:
    """Entry point of the command."""
    cli.main()


def _find_entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


def _absent(name: str) -> click.Command:
    """A command of the compiler on a device, which has the runtime alone."""
    return _refusal(
        name,
        TargetUnavailableError(
            f"command {name!r} comes with the compiler, and this is the runtime alone. "
            f"Compile on another machine and copy the artifact here, or {install_hint('compiler')}"
        ),
    )


def _unavailable(name: str, entry: EntryPoint | None, reason: Exception) -> click.Command:
    """A command that cannot be loaded."""
    package = entry.value.partition(".")[0] if entry is not None else "edgelstm"
    remedy = (
        f"install it again: {install_hint('compiler')}"
        if package == "edgelstm_compiler"
        else f"it comes from {package!r}: repair or remove that package"
    )

    error = TargetUnavailableError(
        f"command {name!r} cannot be loaded ({type(reason).__name__}: {reason}); {remedy}"
    )
    error.__cause__ = reason
    return _refusal(name, error, f"(cannot be loaded: {type(reason).__name__})")


def _refusal(name: str, error: TargetUnavailableError, summary: str = "") -> click.Command:
    """A command that only says why it is not there, whatever its arguments are."""

    @click.pass_context
    def fail(ctx: click.Context) -> None:
        del ctx
        raise error

    return click.Command(
        name,
        callback=fail,
        short_help=summary,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def _report(error: BaseException, as_json: bool) -> int:
    """Print an error; its exit code."""
    code, message = _explain(error)
    message = printable(message)
    if not message:
        _silence_stdout()
    elif as_json:
        content = {"type": type(error).__name__, "message": message, "exit_code": code}
        click.echo(json.dumps({"error": content}), err=True)
    elif isinstance(error, click.UsageError):
        shown = io.StringIO()
        error.show(shown)
        click.echo(printable(shown.getvalue()), err=True, nl=False)
    else:
        click.echo(f"error: {message}", err=True)
    return code


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message; no message where nobody is listening."""
    if isinstance(error, EdgeLSTMError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        # click turns what interrupts into Abort.
        cause = error if isinstance(error, Interrupted) else error.__cause__
        number = cause.number if isinstance(cause, Interrupted) else signal.SIGINT
        return _SIGNALLED + number, "interrupted" if number == signal.SIGINT else "terminated"
    if isinstance(error, _ReaderGoneError):
        return _BROKEN_PIPE, ""
    if isinstance(error, OSError):
        return 1, str(error)
    if isinstance(error, MemoryError):
        return 1, "out of memory"
    bug = InternalError(f"{type(error).__name__}: {error}; --debug shows where")
    return bug.exit_code, str(bug)


def _silence_stdout() -> None:
    """Let the interpreter end without complaints about an output that nobody reads."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (AttributeError, OSError, ValueError):
        return


if __name__ == "__main__":
    main()
