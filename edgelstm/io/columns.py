"""Which columns of a recording are which elements of the inputs, and how numbers read and print."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import RAW_HALF, DType, is_floating
from edgelstm.errors import RecordingError
from edgelstm.signature import TensorSpec

TIME_NAMES = frozenset(
    """
    t time times timestamp timestamps time_stamp date datetime date_time clock epoch unix utc
    unix_time unix_timestamp utc_time local_time elapsed elapsed_time time_elapsed seconds_elapsed
    seconds second sec secs s milliseconds millis ms microseconds micros us ns time_s time_sec
    time_seconds time_ms time_us time_ns t_s t_ms t_us t_ns timestamp_s timestamp_ms timestamp_us
    timestamp_ns zeit zeitstempel uhrzeit datum temps horodatage tiempo fecha tijd tid czas
    """.split()  # noqa: SIM905
)
"""Names of time stamps, as `plain_name` makes them."""

INDEX_NAMES = frozenset(
    """
    index idx frame frames frame_number frame_index sample sample_number sample_index sample_id
    counter packet packet_counter packetcounter seq sequence row row_number line unnamed
    unnamed:_0 unnamed_0 level_0
    """.split()  # noqa: SIM905
)
LABEL_NAMES = frozenset(
    ["label", "labels", "class", "target", "phase", "activity", "state", "subject", "trial", "id"]
)
_RESERVED = TIME_NAMES | INDEX_NAMES | LABEL_NAMES | {""}
_BRACKETS = re.compile(r"\s*[\[({<]([^\[\](){}<>]*)[\])}>]\s*$")


_GAPS = re.compile(r"[\s.\-_]+")


def plain_name(name: str) -> str:
    """A column's name without unit, case and punctuation: `Time (s)` is `time`."""
    name = name.strip().strip("\"'").strip()
    if not _ELEMENT.fullmatch(name):
        name = _BRACKETS.sub("", name)
    return _GAPS.sub("_", name).strip("_").lower()


def unit_in_name(name: str) -> str:
    """The unit in `acc_x (m/s^2)` or `acc_x [g]`, or ""."""
    found = None if _ELEMENT.fullmatch(name.strip()) else _BRACKETS.search(name)
    return found.group(1).strip() if found else ""


_ELEMENT = re.compile(r".*\[[0-9]+(?:,[0-9]+)*\]")


def split_names(text: str) -> list[str]:
    """Names separated by commas; a name that holds a comma stands in quotes."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    return [name.strip() for name in names if name.strip()]


def element_names(spec: TensorSpec) -> list[str]:
    """Names of the elements of a tensor, see `names_of`."""
    return names_of(spec.name, spec.shape)


def names_of(name: str, shape: Sequence[int]) -> list[str]:
    """Names of the elements of an array, row by row: `x[0]`, `x[0,1]`, or `x` for a scalar."""
    if not shape:
        return [name]
    indices = itertools.product(*(range(extent) for extent in shape))
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]


def choose_columns(
    header: Sequence[str],
    specs: Sequence[TensorSpec],
    wanted: Sequence[str],
    numeric: Collection[int],
    origin: str,
    described: Sequence[str] = (),
    *,
    has_names: bool = True,
) -> dict[str, list[int]]:
    """The column of every element, by input.

    In this order: the columns that were asked for; columns named like the elements; columns named
    as the model's description says; all columns of numbers that are no time stamps, counters or
    labels by their name, if they are as many as the elements. Without names, all columns.

    Args:
        header: names of the columns.
        specs: the inputs.
        wanted: names that were asked for, elements of all inputs in order; empty for none.
        numeric: which columns hold numbers.
        origin: the recording, for messages.
        described: names in the model's description, elements of all inputs in order.
        has_names: False where `header` only counts the columns.

    Raises:
        RecordingError: no choice is clear.
    """
    elements = [name for spec in specs for name in element_names(spec)]
    if wanted:
        chosen = _wanted(header, elements, wanted, origin)
    elif has_names:
        chosen = _by_name(header, specs)
        if not chosen and described:
            chosen = _described(header, described, origin)
        if not chosen:
            chosen = _guessed(header, elements, numeric, origin)
    else:
        chosen = _counted(header, elements, numeric, origin)
    columns = iter(chosen)
    return {spec.name: [next(columns) for _ in element_names(spec)] for spec in specs}


def _wanted(
    header: Sequence[str], elements: Sequence[str], wanted: Sequence[str], origin: str
) -> list[int]:
    if len(wanted) != len(elements):
        raise RecordingError(
            f"--columns names {len(wanted)} columns, the model takes {len(elements)}: "
            f"{_list(elements)}"
        )
    index = _Index(header)
    return [index.find(name, origin) for name in wanted]


def _described(header: Sequence[str], described: Sequence[str], origin: str) -> list[int]:
    index = _Index(header)
    missing = [name for name in described if not index.places(name)]
    if missing:
        raise RecordingError(
            f"{origin}: no column is named {_list([repr(name) for name in missing])}; the model "
            f"takes {_list(described)}, the recording has {_list(header)}; rename its columns, or "
            "say which are which: --columns A,B,..."
        )
    return [index.find(name, origin) for name in described]


def _guessed(
    header: Sequence[str], elements: Sequence[str], numeric: Collection[int], origin: str
) -> list[int]:
    named = [i for i, name in enumerate(header) if plain_name(name) not in _RESERVED]
    plain = [i for i in named if i in numeric]
    # Text where every name is that of a sensor is a fault of its line, not another column.
    chosen = named if len(plain) != len(elements) == len(named) else plain
    if len(chosen) != len(elements):
        raise RecordingError(
            f"{origin}: the model takes {len(elements)} columns ({_list(elements)}), the recording "
            f"has {len(plain)} columns of numbers besides time stamps, counters and labels "
            f"({_list([header[i] for i in plain])}); name them in order: --columns A,B,..."
        )
    counts = Counter(header[i].strip() for i in chosen)
    twice = [repr(name) for name, count in counts.items() if count > 1]
    if twice:
        raise RecordingError(
            f"{origin}: several columns are named {_list(twice)}; rename them in the header line"
        )
    return chosen


def _counted(
    header: Sequence[str], elements: Sequence[str], numeric: Collection[int], origin: str
) -> list[int]:
    columns = [i for i, name in enumerate(header) if name]
    texts = [header[i] for i in columns if i not in numeric]
    if len(columns) != len(elements) or texts:
        rest = f", of which {_list(texts)} hold text" if texts else ""
        raise RecordingError(
            f"{origin}: the model takes {len(elements)} columns ({_list(elements)}), the recording "
            f"has {len(columns)} columns without names{rest}; say which by number: "
            "--columns 0,1,..."
        )
    return columns


def _by_name(header: Sequence[str], specs: Sequence[TensorSpec]) -> list[int]:
    total = sum(len(element_names(spec)) for spec in specs)
    for fold in (str.strip, lambda name: name.strip().lower()):
        names = [fold(name) for name in header]
        counts = Counter(names)
        places = {name: i for i, name in enumerate(names)}
        columns = []
        for spec in specs:
            elements = [fold(name) for name in element_names(spec)]
            if len(elements) == 1 and elements[0] not in places:
                elements = [fold(spec.name)]
            columns += [places[name] for name in elements if counts[name] == 1]
        if len(columns) == total:
            return columns
    return []


class _Index:
    """Where the names of a header are; exactly, else without unit, case and punctuation."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._exact: dict[str, list[int]] = {}
        self._plain: dict[str, list[int]] = {}
        for i, name in enumerate(header):
            self._exact.setdefault(name.strip(), []).append(i)
            self._plain.setdefault(plain_name(name), []).append(i)

    def places(self, name: str) -> list[int]:
        return self._exact.get(name.strip()) or self._plain.get(plain_name(name)) or []

    def find(self, name: str, origin: str) -> int:
        found = self.places(name)
        if len(found) == 1:
            return found[0]
        problem = f"{len(found)} columns are named" if found else "no column is named"
        raise RecordingError(
            f"{origin}: {problem} {name!r}; there are: {_list(list(self._header))}"
        )


def find_columns(header: Sequence[str], names: Sequence[str], origin: str) -> dict[str, int]:
    """The columns of these names.

    Raises:
        RecordingError: there is none of a name, or several.
    """
    index = _Index(header if names else ())
    return {name: index.find(name, origin) for name in names}


def find_time(header: Sequence[str], numeric: Collection[int]) -> int | None:
    """The column of time stamps, by its name, where they are numbers."""
    places = [i for i, name in enumerate(header) if plain_name(name) in TIME_NAMES]
    return next((i for i in places if i in numeric), None)


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
    if spec.dtype is DType.BF16 and array.dtype == RAW_HALF:
        array = array.view(dtype)
    fits = array.dtype.kind in "biu" or (spec.dtype.is_float and is_floating(array.dtype))
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
    shown = ", ".join(x if x.isprintable() else ascii(x)[1:-1] for x in names[:limit])
    return f"{shown}, ... ({len(names)})" if len(names) > limit else shown or "none"
