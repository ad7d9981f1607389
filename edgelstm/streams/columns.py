"""Which columns of a recording are which elements of the inputs, and how numbers read and print."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.signature import TensorSpec

TIME_NAMES = frozenset(
    [
        "t",
        "time",
        "times",
        "timestamp",
        "timestamps",
        "time_s",
        "time_ms",
        "time_us",
        "time_ns",
        "seconds",
        "ms",
        "us",
        "ns",
        "date",
        "datetime",
        "index",
        "idx",
        "frame",
        "sample",
        "counter",
    ]
)
LABEL_NAMES = frozenset(
    ["label", "labels", "class", "target", "phase", "activity", "state", "subject", "trial", "id"]
)
_MISSING = frozenset({"", "na", "n/a", "null", "none"})
_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1}


def element_names(spec: TensorSpec) -> list[str]:
    """Names of the elements of a tensor, row by row: `x[0]`, `x[0,1]`, or `x` for a scalar."""
    if not spec.shape:
        return [spec.name]
    indices = itertools.product(*(range(extent) for extent in spec.shape))
    return [f"{spec.name}[{','.join(map(str, index))}]" for index in indices]


def choose_columns(
    header: Sequence[str],
    specs: Sequence[TensorSpec],
    wanted: Sequence[str],
    numeric: Collection[int],
    origin: str,
) -> dict[str, list[int]]:
    """The column of every element, by input.

    In this order: the columns that were asked for; columns named like the elements; all columns of
    numbers that are no time stamps or labels by their name, if they are as many as the elements.

    Args:
        header: names of the columns.
        specs: the inputs.
        wanted: names that were asked for, elements of all inputs in order; empty for none.
        numeric: which columns hold numbers.
        origin: the recording, for messages.

    Raises:
        RecordingError: no choice is clear.
    """
    elements = [name for spec in specs for name in element_names(spec)]
    chosen = _choose(header, specs, elements, wanted, numeric, origin)
    columns = iter(chosen)
    return {spec.name: [next(columns) for _ in element_names(spec)] for spec in specs}


def _choose(
    header: Sequence[str],
    specs: Sequence[TensorSpec],
    elements: Sequence[str],
    wanted: Sequence[str],
    numeric: Collection[int],
    origin: str,
) -> list[int]:
    if wanted:
        if len(wanted) != len(elements):
            raise RecordingError(
                f"--columns names {len(wanted)} columns, the model takes {len(elements)}: "
                f"{_list(elements)}"
            )
        return [find_column(header, name, origin) for name in wanted]
    by_name = _by_name(header, specs)
    if by_name is not None:
        return by_name
    reserved = TIME_NAMES | LABEL_NAMES
    candidates = [i for i, name in enumerate(header) if i in numeric]
    plain = [i for i in candidates if header[i].strip().lower() not in reserved]
    if len(plain) == len(elements):
        return plain
    raise RecordingError(
        f"{origin}: the model takes {len(elements)} columns ({_list(elements)}), the recording "
        f"has {len(plain)} columns of numbers besides time stamps and labels "
        f"({_list([header[i] for i in plain])}); name them in order: --columns A,B,..."
    )


def _by_name(header: Sequence[str], specs: Sequence[TensorSpec]) -> list[int] | None:
    for fold in (str.strip, lambda name: name.strip().lower()):
        names = [fold(name) for name in header]
        columns = []
        for spec in specs:
            elements = [fold(name) for name in element_names(spec)]
            if len(elements) == 1 and elements[0] not in names:
                elements = [fold(spec.name)]
            columns += [names.index(name) for name in elements if names.count(name) == 1]
        if len(columns) == sum(len(element_names(spec)) for spec in specs):
            return columns
    return None


def find_column(header: Sequence[str], name: str, origin: str) -> int:
    """The column of that name.

    Raises:
        RecordingError: there is none, or several.
    """
    found = [i for i, column in enumerate(header) if column.strip() == name.strip()]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} columns are named" if found else "no column is named"
    raise RecordingError(f"{origin}: {problem} {name!r}; there are: {_list(header)}")


def is_number(text: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        parse_float(text)
    except ValueError:
        return False
    return True


def parse_float(text: str) -> float:
    """A number; NaN for a missing one.

    Raises:
        ValueError: it is neither.
    """
    try:
        return float(text)
    except ValueError:
        if text.strip().lower() in _MISSING:
            return float("nan")
        raise


def parse_whole(text: str) -> int:
    """A whole number, also as `true`, `false` or `3.0`.

    Raises:
        ValueError: it is none.
    """
    text = text.strip().lower()
    if text in _TRUTH:
        return _TRUTH[text]
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise ValueError(f"{text!r} is no whole number") from None
        return int(number)


def parser_for(spec: TensorSpec) -> Callable[[str], float]:
    """How a cell of this input is read."""
    return parse_float if spec.dtype.is_float else parse_whole


def to_frames(values: Any, spec: TensorSpec, where: str) -> NDArray[Any]:
    """Numbers as frames `(n, *frame)` of an input's type.

    Numbers beyond the range of a float type become infinite, and are refused as such later.

    Raises:
        RecordingError: they do not fit the type or shape.
    """
    dtype = spec.dtype.numpy
    try:
        array = np.asarray(values)
    except ValueError as exc:
        raise RecordingError(f"{where}: frames of {spec.name!r} differ in length") from exc
    n_frames = len(array) if array.ndim else 0
    if array.ndim == 0 or array.size != n_frames * math.prod(spec.shape):
        raise RecordingError(
            f"{where}: input {spec.name!r} has frames of shape {spec.shape}, "
            f"the recording {array.shape[1:]}"
        )
    fits = array.dtype.kind in ("biuf" if spec.dtype.is_float else "biu")
    if fits and array.size and not spec.dtype.is_float and dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        fits = limits.min <= int(array.min()) and int(array.max()) <= limits.max
    if not fits:
        raise RecordingError(
            f"{where}: input {spec.name!r} takes {dtype.name}, the recording's {array.dtype.name} "
            "values do not fit"
        )
    with np.errstate(over="ignore"):
        return array.astype(dtype).reshape((n_frames, *spec.shape))


def number_texts(values: NDArray[Any]) -> list[str]:
    """The shortest text of each element that reads back as exactly that element of its type."""
    return [str(value) for value in values.reshape(-1)]


def columns_by_input(
    header: Sequence[str], chosen: Mapping[str, Sequence[int]]
) -> dict[str, list[str]]:
    """Names of the chosen columns."""
    return {name: [header[i] for i in columns] for name, columns in chosen.items()}


def _list(names: Sequence[str], limit: int = 24) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown}, ... ({len(names)})" if len(names) > limit else shown or "none"
