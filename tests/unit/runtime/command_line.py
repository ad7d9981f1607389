"""Runs command lines in this process, with stdout and stderr apart in every click since 8.1."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from edgelstm.cli import cli


def invoke(*arguments: object) -> Result:
    """The result of `edgelstm ARGUMENTS`."""
    make: Any = CliRunner
    try:
        runner = make(mix_stderr=False)
    except TypeError:  # click 8.2 never mixes them
        runner = make()
    result: Result = runner.invoke(cli, [str(argument) for argument in arguments])
    return result
