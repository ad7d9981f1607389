"""Lines of CSV taken apart into cells: alone, together, and where a quoted cell spans several."""

from __future__ import annotations

import csv
from collections.abc import Sequence

COMMENT = "#"
MAX_QUOTED_LINES = 20
"""Lines that one quoted cell of a file may span."""


def is_comment(line: str) -> bool:
    """Whether a line is none of the table."""
    return line.lstrip().startswith(COMMENT)


def split_rows(lines: Sequence[str], delimiter: str) -> list[list[str]] | None:
    """The cells of each line; None where a quoted cell goes on in another line."""
    if delimiter == " ":
        lines = [" ".join(line.split()) for line in lines]
    reader = csv.reader([*lines, ""], delimiter=delimiter, skipinitialspace=delimiter != " ")
    try:
        rows = list(reader)
    except csv.Error:
        return None
    # An open quote swallows at least the empty line at the end.
    return rows[:-1] if len(rows) == len(lines) + 1 and not rows[-1] else None


def split_columns(
    lines: Sequence[str], joined: str, delimiter: str, width: int
) -> Sequence[Sequence[str]] | None:
    """The cells of each column, where every line is a row of so many cells; else None.

    Args:
        lines: of the table.
        joined: the same with line feeds between.
        delimiter: between cells.
        width: cells of a row.
    """
    is_plain = delimiter != " " and '"' not in joined
    # Where nothing is quoted and no cell begins with a blank, cells are what stands between.
    if is_plain and not (f"{delimiter} " in joined or "\n " in joined or joined[:1] == " "):
        if any(line.count(delimiter) != width - 1 for line in lines):
            return None
        cells = joined.replace("\n", delimiter).split(delimiter)
        return [cells[i::width] for i in range(width)]
    rows = split_rows(lines, delimiter)
    if not rows or set(map(len, rows)) != {width}:
        return None
    return list(zip(*rows, strict=True))


def split_row(line: str, delimiter: str) -> list[str] | None:
    """The cells of one line; None where it is none by itself."""
    rows = split_rows([line], delimiter)
    return None if rows is None else rows[0]


def split_record(text: str, delimiter: str) -> list[str] | None:
    """The cells of several lines that are one record, or None."""
    lines = text.split("\n")
    reader = csv.reader(
        [*(f"{line}\n" for line in lines), ""], delimiter=delimiter, skipinitialspace=True
    )
    try:
        rows = list(reader)
    except csv.Error:
        return None
    return rows[0] if len(rows) == 2 and not rows[1] else None


def split_records(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The cells of each line; of several that are one record all at the first, none at others."""
    rows: list[list[str]] = []
    while len(rows) < len(lines):
        start = len(rows)
        row = split_row(lines[start], delimiter)
        count = 1
        while row is None and count < MAX_QUOTED_LINES and start + count < len(lines):
            count += 1
            row = split_record("\n".join(lines[start : start + count]), delimiter)
        rows.append(row or [])
        rows += [[] for _ in range(count - 1 if row else 0)]
    return rows
