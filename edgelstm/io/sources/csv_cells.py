"""Cells of a table as arrays: whole columns at once, and one by one where a column resists.

Both ways give the same numbers: the quick one runs only on text in which Python's `float` takes
nothing that `numbers` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.io.base import Array, Fault
from edgelstm.io.columns import to_frames
from edgelstm.io.numbers import (
    Decimal,
    NotANumberError,
    is_missing,
    parse_float,
    parser_for,
)
from edgelstm.signature import TensorSpec

TEXT = "text in a cell"
MISSING = "missing value"
OUT_OF_RANGE = "integer out of range"

_PLAIN_BYTES = bytes(byte for byte in (9, 10, 13, *range(32, 127)) if byte != ord("_"))
"""Bytes of text in which `float` reads ASCII digits, and neither underscores nor odd blanks."""


_FEW_ROWS = 8
"""Rows up to which one array of all cells is quicker than one a column."""


def is_plain(text: str) -> bool:
    """Whether `float` is as strict about this text as `parse_float`."""
    return text.isascii() and not text.encode().translate(None, _PLAIN_BYTES)


def read_numbers(cells: Sequence[str], decimal: Decimal, plain: bool) -> Array:
    """A column in double precision, NaN for missing values.

    Args:
        cells: the column.
        decimal: sign in front of decimals.
        plain: whether all of it `is_plain`; False where it is not known.

    Raises:
        NotANumberError: a cell is no number.
    """
    plain = plain or is_plain("\n".join(cells))
    if plain:
        quick = _read_plain(cells, decimal)
        # Most columns that resist have empty cells and nothing else.
        quick = _read_plain([cell or "nan" for cell in cells], decimal) if quick is None else quick
        if quick is not None:
            return quick
    numbers = np.empty(len(cells), np.float64)
    is_quick = plain and decimal == "."
    for i, cell in enumerate(cells):
        try:
            numbers[i] = float(cell) if is_quick else parse_float(cell, decimal)
        except ValueError:
            numbers[i] = parse_float(cell, decimal)
    return numbers


def _read_plain(cells: Sequence[str], decimal: Decimal) -> Array | None:
    """A plain column whose cells are all numbers for `float`; else None."""
    if decimal == ",":
        joined = "\n".join(cells)
        if "." in joined:
            return None
        points = joined.replace(",", ".").split("\n")
        if len(points) != len(cells):
            return None  # a cell over several lines
        cells = points
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None


def read_tensor(
    columns: Sequence[Sequence[str]],
    names: Sequence[str],
    spec: TensorSpec,
    decimal: Decimal,
    plain: bool,
    where: Callable[[int], str],
) -> tuple[Array, dict[int, Fault]]:
    """The frames of one input, and the faults of single rows.

    Args:
        columns: the cells of each element, equally many.
        names: of the columns, for messages.
        spec: the input.
        decimal: sign in front of decimals.
        plain: see `read_numbers`.
        where: the place of row i, for messages.

    Shapes: frames (n, *frame).
    """
    n_rows = len(columns[0]) if columns else 0
    faults: dict[int, Fault] = {}
    if spec.dtype.is_float:
        if plain and decimal == "." and n_rows < _FEW_ROWS:
            try:
                few = np.array([[float(cell) for cell in cells] for cells in columns])
                return to_frames(few.T, spec, ""), faults
            except ValueError:
                pass
        table = np.empty((n_rows, len(columns)), np.float64)
        for k, cells in enumerate(columns):
            try:
                table[:, k] = read_numbers(cells, decimal, plain)
            except NotANumberError:
                table[:, k] = _one_by_one(cells, names[k], spec, decimal, where, faults)
        return to_frames(table, spec, ""), faults
    numbers = [
        _one_by_one(cells, names[k], spec, decimal, where, faults)
        for k, cells in enumerate(columns)
    ]
    dtype = np.bool_ if spec.dtype is DType.BOOL else np.int64
    flat = chain.from_iterable(zip(*numbers, strict=True))
    table = np.fromiter(flat, dtype, n_rows * len(columns)).reshape(n_rows, len(columns))
    return to_frames(table, spec, ""), faults


def _one_by_one(
    cells: Sequence[str],
    name: str,
    spec: TensorSpec,
    decimal: Decimal,
    where: Callable[[int], str],
    faults: dict[int, Fault],
) -> list[Any]:
    """A column whose faulty cells become NaN or 0, and faults of their rows."""
    parse = parser_for(spec, decimal)
    filler: float = float("nan") if spec.dtype.is_float else 0
    limits = np.iinfo(spec.dtype.numpy.name) if spec.dtype.numpy.kind in "iu" else None
    numbers: list[Any] = []
    for i, cell in enumerate(cells):
        try:
            number = parse(cell)
        except NotANumberError as exc:
            reason = MISSING if is_missing(cell) else TEXT
            faults.setdefault(i, Fault(reason, f"{where(i)}: column {name!r}: {exc}"))
            number = filler
        if limits is not None and not limits.min <= number <= limits.max:
            message = f"{cell.strip()[:40]} is beyond {spec.dtype.numpy.name}"
            faults.setdefault(i, Fault(OUT_OF_RANGE, f"{where(i)}: column {name!r}: {message}"))
            number = filler
        numbers.append(number)
    return numbers
