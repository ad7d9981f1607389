"""How commands speak: JSON for machines, aligned text for people, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Option `--json`, passed as `as_json`."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    return decorate(function)


def print_json(data: Any, err: bool = False) -> None:
    """One JSON document."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False), err=err)


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], indent: int = 2) -> None:
    """Aligned columns: numbers to the right, text to the left."""
    if not rows:
        return
    cells = [[str(cell) for cell in row] for row in rows]
    is_right = [
        all(isinstance(row[i], (int, float)) or row[i] == "" for row in rows)
        for i in range(len(header))
    ]
    widths = [max(len(header[i]), *(len(row[i]) for row in cells)) for i in range(len(header))]
    for row in [list(header), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_right, strict=True)
        ]
        click.echo((" " * indent + "  ".join(parts)).rstrip())


def print_facts(facts: Sequence[tuple[str, Any]], indent: int = 2) -> None:
    """Lines of a name and what there is to say about it; empty ones are left out."""
    shown = [(name, str(value)) for name, value in facts if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{' ' * indent}{name.ljust(width)}  {value}")


def format_ns(value: float | None) -> str:
    """A duration with three digits and its unit."""
    if value is None:
        return "-"
    for limit, divisor, unit in ((1e3, 1.0, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if value < limit:
            return f"{value / divisor:.3g} {unit}"
    return f"{value / 1e9:.3g} s"


def format_bytes(size: int) -> str:
    """A size with its unit."""
    for limit, divisor, unit in ((2**10, 1, "B"), (2**20, 2**10, "KB"), (2**30, 2**20, "MB")):
        if size < limit:
            return f"{size / divisor:.4g} {unit}"
    return f"{size / 2**30:.4g} GB"


@contextmanager
def progress_bar(label: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; the function advances it."""
    if length is None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda amount: None
        return
    bar: Any
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
