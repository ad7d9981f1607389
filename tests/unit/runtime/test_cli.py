"""The command group: finding commands, and how errors end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

import edgelstm.cli
from edgelstm.errors import ModelError
from tests.unit.runtime.command_line import invoke as invoke_command_line

FAILURE: list[BaseException] = []


@click.command("fail")
@click.option("--json", "as_json", is_flag=True)
@click.argument("words", nargs=-1)
def fail_command(as_json: bool, words: tuple[str, ...]) -> None:
    """Fail as the test wants."""
    del as_json
    click.echo(" ".join(words))
    if FAILURE:
        raise FAILURE.pop()


NO_COMMAND = 5


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line with some plug-ins, one of them good."""
    here = "tests.unit.runtime.test_cli"
    entries = {
        "fail": f"{here}:fail_command",
        "gone": "edgelstm_gone.module:command",
        "compile": "edgelstm_compiler.nowhere:command",
        "odd": f"{here}:NO_COMMAND",
        "lost": f"{here}:nothing",
    }
    found = [EntryPoint(name, value, "edgelstm.commands") for name, value in entries.items()]
    monkeypatch.setattr(edgelstm.cli, "entry_points", lambda group: found)
    monkeypatch.delenv("EDGELSTM_DEBUG", raising=False)
    return invoke_command_line


def test_help_lists_all_commands_also_broken_ones(invoke: Callable[..., Result]) -> None:
    """A plug-in that cannot be loaded is shown as such, and the others work."""
    result = invoke("--help")
    assert result.exit_code == 0
    lines = result.output.partition("Commands:")[2].splitlines()
    commands = [line.split()[0] for line in lines if line.strip()]
    assert [c for c in commands if c in ("compile", "inspect", "run", "bench", "targets")] == [
        "compile",
        "inspect",
        "run",
        "bench",
        "targets",
    ]
    assert "(cannot be loaded: ModuleNotFoundError)" in result.output
    assert invoke("fail", "a", "b").output == "a b\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "ModuleNotFoundError.*comes from 'edgelstm_gone'"),
        ("compile", r"pip install .*/compiler .*/targets"),
        ("odd", "5 is no click command"),
        ("lost", "AttributeError"),
    ],
)
def test_a_broken_command_says_why(invoke: Callable[..., Result], name: str, message: str) -> None:
    """Whatever its arguments, it is one message and an exit code."""
    result = invoke(name, "--some", "option", "-o", "x")
    assert result.exit_code == 4
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: command '{name}' cannot be loaded")
    assert re.search(message, result.stderr)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelError("no such operator"), 3, "error: no such operator\n"),
        (ValueError("oops"), 70, "ValueError: oops; --debug shows where (this is a bug"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (MemoryError(), 1, "error: out of memory"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (click.ClickException("wrong"), 1, "error: wrong"),
        (click.UsageError("wrong use"), 2, "wrong use"),
    ],
)
def test_errors_become_messages_and_codes(
    invoke: Callable[..., Result], error: BaseException, code: int, message: str
) -> None:
    """No traceback, unless it is asked for."""
    FAILURE.append(error)
    result = invoke("fail")
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_tracebacks(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--debug` may stand anywhere; the environment asks for it too."""
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        FAILURE.append(ModelError("no such operator"))
        result = invoke(*arguments)
        assert result.exit_code == 3
        assert "Traceback" in result.stderr
        assert "error: no such operator" in result.stderr
    assert invoke("fail", "--", "--debug").output == "--debug\n"
    monkeypatch.setenv("EDGELSTM_DEBUG", "1")
    FAILURE.append(ModelError("no such operator"))
    assert "Traceback" in invoke("fail").stderr


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [(ModelError("a"), "ModelError", 3), (click.UsageError("a"), "UsageError", 2)],
)
def test_json_errors(
    invoke: Callable[..., Result], error: BaseException, kind: str, code: int
) -> None:
    """With `--json` an error is a JSON object on stderr, and stdout stays clean."""
    FAILURE.append(error)
    result = invoke("fail", "--json", "word")
    assert result.exit_code == code
    assert result.stdout == "word\n"
    assert json.loads(result.stderr) == {"error": {"type": kind, "message": "a", "exit_code": code}}


def test_a_closed_pipe_is_no_error_message(invoke: Callable[..., Result]) -> None:
    """`| head` ends the program quietly."""
    FAILURE.append(BrokenPipeError())
    result = invoke("fail")
    assert result.exit_code == 141
    assert result.stderr == ""


def test_unknown_commands_and_version(invoke: Callable[..., Result]) -> None:
    """Wrong usage is exit code 2; the version is that of the package."""
    result = invoke("nonsense")
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.stderr
    assert invoke("--version").output == f"edgelstm {edgelstm.__version__}\n"


def test_built_in_commands_need_no_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a source tree on the path, without entry points, the runtime's commands are there."""
    no_entries: list[Any] = []
    monkeypatch.setattr(edgelstm.cli, "entry_points", lambda group: no_entries)
    result = invoke_command_line("inspect", tmp_path / "missing.edgelstm")
    assert result.exit_code == 5
    assert "No such file" in result.stderr
    assert invoke_command_line("compile").exit_code == 4
