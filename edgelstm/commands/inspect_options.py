"""What options of `edgelstm inspect` say about an ONNX model."""

from __future__ import annotations

from typing import Any

import click


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`x=5,1,3`."""
    name, _, extents = text.rpartition("=")
    try:
        shape = tuple(int(extent) for extent in extents.split(","))
    except ValueError:
        shape = ()
    if not name or not shape:
        raise click.BadParameter(f"{text!r}: expected NAME=5,1,3", param_hint="--shape")
    return name, shape


def parse_pair(text: str) -> tuple[str, str]:
    """`h0=hn`."""
    name, _, other = text.partition("=")
    if not name or not other:
        raise click.BadParameter(f"{text!r}: expected INPUT=OUTPUT", param_hint="--carry")
    return name, other


def parse_overlap(text: str) -> tuple[str, int]:
    """`64` or `x=64`."""
    name, equals, count = text.rpartition("=")
    if not count.isdigit() or (equals and not name):
        raise click.BadParameter(f"{text!r}: expected 64 or X=64", param_hint="--overlap")
    return name, int(count)


def parse_value(text: str) -> tuple[str, Any]:
    """`sr=16000`, a number or several."""
    name, _, value = text.partition("=")
    try:
        numbers = [float(x) if set(x) & set(".eE") else int(x) for x in value.split(",")]
    except ValueError:
        numbers = []
    if not name or not numbers:
        raise click.BadParameter(f"{text!r}: expected NAME=16000", param_hint="--set")
    return name, numbers[0] if len(numbers) == 1 else numbers
