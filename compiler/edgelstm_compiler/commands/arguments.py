"""Reads what the compiler's commands are given: shapes and target options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from edgelstm.io.columns import split_names


def parse_shapes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """`NAME=1,30,17` -> {"NAME": (1, 30, 17)}.

    Raises:
        click.BadParameter: another form.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in values:
        name, equals, extents = text.rpartition("=")
        numbers = extents.replace("x", ",").split(",") if extents else []
        if not equals or not name or not all(word.strip().isdigit() for word in numbers):
            raise click.BadParameter(
                f"{text!r} is not NAME=EXTENT,EXTENT,... such as input=1,30,17", ctx, param
            )
        shapes[name] = tuple(int(word) for word in numbers)
    return shapes


def parse_pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """`KEY=VALUE` pairs.

    Raises:
        click.BadParameter: another form.
    """
    pairs: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", ctx, param)
        pairs[key] = value
    return pairs


def parse_constants(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """`NAME=16000`, `NAME=1,2,3` or `NAME=file.npy` (of an `.npz` the array of that name).

    Raises:
        click.BadParameter: another form, or a file that cannot be read.
    """
    constants: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE such as sr=16000", ctx, param)
        try:
            constants[name] = _constant(name, value)
        except (OSError, ValueError, KeyError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise click.BadParameter(f"{text!r}: {reason}", ctx, param) from exc
    return constants


def _constant(name: str, value: str) -> Any:
    if value.endswith((".npy", ".npz")):
        found = np.load(value, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            if name not in found.files and len(found.files) != 1:
                raise ValueError(f"it holds {', '.join(found.files)}, and no array {name!r}")
            return found[name if name in found.files else found.files[0]]
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    numbers = [float(word) if set(word) & set(".eE") else int(word) for word in value.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def parse_labels(values: Sequence[str]) -> list[str] | dict[str, list[str]] | None:
    """`A,B,...` once, or `OUTPUT=A,B,...` for each output; None where there are none.

    Raises:
        click.UsageError: both, or two lists without an output.
    """
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return split_names(values[0])
    labels: dict[str, list[str]] = {}
    for text in values:
        output, equals, names = text.partition("=")
        if not equals or not output.strip():
            raise click.UsageError(f"--labels {text}: give OUTPUT=A,B,... for each output")
        labels[output.strip()] = split_names(names)
    return labels
