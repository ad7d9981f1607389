"""What a user says about the states of a model: `--carry`, `--no-carry`, `--overlap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgelstm_compiler.commands.arguments import parse_pairs
from edgelstm_compiler.streaming.carry import CarryRequest

Command = TypeVar("Command", bound=Callable[..., Any])


def carry_options(command: Command) -> Command:
    """The three options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_overlap(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    """`64`, `NAME=64` or `NAME@AXIS=64`.

    Raises:
        click.BadParameter: another form.
    """
    found: dict[str, int] = {}
    for text in values:
        name, equals, count = text.rpartition("=")
        if not count.isdigit() or (equals and not name):
            raise click.BadParameter(
                f"{text!r} is not N, NAME=N or NAME@AXIS=N such as input=64", ctx, param
            )
        found[name] = int(count)
    return found


def make_request(
    carry: dict[str, str], no_carry: bool, overlap: dict[str, int] | None = None
) -> CarryRequest:
    """What was said.

    Raises:
        click.UsageError: it contradicts itself.
    """
    if no_carry and (carry or overlap):
        raise click.UsageError("--no-carry carries nothing: leave out --carry and --overlap")
    return CarryRequest(carry, no_carry, overlap=overlap or {})


_OPTIONS = (
    click.option(
        "--carry",
        multiple=True,
        metavar="INPUT=OUTPUT",
        callback=parse_pairs,
        help="A state of the model: the output is fed back into the input at the next step. Others "
        "are found; see `edgelstm inspect`. May be repeated.",
    ),
    click.option(
        "--no-carry", is_flag=True, help="Every input and output is the caller's, states too."
    ),
    click.option(
        "--overlap",
        multiple=True,
        metavar="[NAME=]N",
        callback=parse_overlap,
        help="The newest N elements of an input along time stand in front of its next chunk, too "
        "(NAME@AXIS=N where several axes are long); 0 tells that axis alone, along which `run` "
        "cuts recordings into chunks. May be repeated.",
    ),
)
