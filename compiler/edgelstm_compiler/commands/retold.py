"""Errors that name commands say the user's own one: all other options stay as they were given."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click

from edgelstm_compiler.streaming.refusal import OtherModeError

MODE_OPTIONS = (
    *("mode", "window", "hop", "carry_across_windows", "smooth", "lookahead", "chunk"),
    "attention_context",
    *("carry", "no_carry", "overlap"),
)
"""Parameters that ask something of one mode, and mean nothing to another."""

RECORDINGS = ("calibrate", "calibration", "holdout", "check_files")
"""Parameters that are recordings frame after frame, for the mode that was asked for."""

_ARGUMENTS = "edgelstm_compiler.arguments"


class RetoldCommand(click.Command):
    """Keeps its arguments as they were given, for errors that name another command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of any command."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As of any command.

        Raises:
            OtherModeError: with the user's own options.
        """
        try:
            return super().invoke(ctx)
        except OtherModeError as error:
            kept = _without(self.params, ctx.meta[_ARGUMENTS])
            command = shlex.join(["edgelstm", str(ctx.info_name), *kept])
            given = [name for name in RECORDINGS if ctx.params.get(name)]
            ways = [way for way in error.ways if not given or way.takes_frames]
            raise error.told(ways, command) from error


def _without(params: Sequence[click.Parameter], arguments: Sequence[str]) -> Iterator[str]:
    """All arguments but the options of a mode, and what they are given."""
    dropped = {
        name: isinstance(param, click.Option) and not param.is_flag
        for param in params
        if param.name in MODE_OPTIONS
        for name in param.opts
    }
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in dropped:
            yield word
        elif dropped[name] and not equals:
            next(words, None)
