"""Options of `edgelstm run` for time, units and decoding."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from edgelstm.errors import RecordingError
from edgelstm.io.gaps import ON_GAP
from edgelstm.io.preparation import parse_scale

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--on-gap",
        type=click.Choice(ON_GAP),
        help="Live: where time stamps show that samples are missing: count it and go on; hold the "
        "last one; interpolate; or begin anew behind a gap over --gap-limit, as all but feed do. "
        "Late and repeated samples are dropped then.",
    ),
    click.option(
        "--gap-limit",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Live: a longer gap is not bridged.  [default: 1]",
    ),
    click.option(
        "--gap-after",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Live: a longer step between stamps is a gap.  [default: 1.5 periods]",
    ),
    click.option(
        "--reorder",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Live: samples wait so long for earlier ones.  [default: 0]",
    ),
    click.option(
        "--resample", is_flag=True, help="Live: bring samples to the model's rate by their stamps."
    ),
    click.option(
        "--offset",
        multiple=True,
        metavar="[SOURCE=]SECONDS",
        help="Live: add this to the times of a sensor; its transport delay as a negative number.",
    ),
    click.option(
        "--scale",
        metavar="[COLUMN=]FACTOR,...",
        help="Live: multiply columns that feed the model: 9.81, or acc_x=9.81,acc_y=9.81.",
    ),
    click.option(
        "--decode",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Live: TOML file that says how predictions become phases, repetitions and alarms.  "
        "[default: as the artifact says]",
    ),
)


def time_options(function: _F) -> _F:
    """These options, passed as one dict `time_settings` under the names of `TimeSettings`."""

    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        names = ("on_gap", "gap_limit", "gap_after", "reorder", "resample", "offset", "scale")
        given = {name: options.pop(name) for name in (*names, "decode")}
        return function(*args, time_settings=_settings(**given) or None, **options)

    found: Any = wrapped
    for option in reversed(_OPTIONS):
        found = option(found)
    return found  # type: ignore[no-any-return]


def _settings(
    on_gap: str | None,
    gap_limit: float | None,
    gap_after: float | None,
    reorder: float | None,
    resample: bool,
    offset: tuple[str, ...],
    scale: str | None,
    decode: Path | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "on_gap": on_gap,
        "gap_limit_s": gap_limit,
        "gap_after_s": gap_after,
        "reorder_s": reorder,
        "is_resampled": resample or None,
        "offsets_s": dict(map(_offset, offset)) or None,
        "scale": None if scale is None else parse_scale(scale),
    }
    if decode is not None:
        from edgelstm.io.decoding.recipe import read_recipe  # the parser is for files alone

        found["decode"] = read_recipe(decode)
    return {name: value for name, value in found.items() if value is not None}


def _offset(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        seconds = float(number)
    except ValueError:
        seconds = float("nan")
    if not abs(seconds) < 86_400:
        raise RecordingError(f"--offset {text}: seconds, as -0.02 or wrist=-0.02")
    return name.strip(), seconds
