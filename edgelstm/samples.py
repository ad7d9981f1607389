"""What a caller hands in, turned into arrays of exactly the model's type and shape, or refused.

Python numbers have no type of their own and are converted. Arrays of another type are converted by
the same rules (never a float to an integer, never a number out of range), with one warning: the
conversion takes time in every step, and integers often are a sensor's raw counts.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.admission import element_ranges, refused
from edgelstm.dtypes import RAW_HALF, DType, is_floating
from edgelstm.errors import (
    InternalError,
    NonFiniteSampleError,
    SampleRangeError,
    SampleShapeError,
    SampleTypeError,
    SampleTypeWarning,
    StreamError,
)
from edgelstm.signature import TensorSpec

Array = NDArray[Any]
Frame: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"
"""The array of the only input (or Python numbers), or the arrays of several inputs by name."""
Result: TypeAlias = "Array | Any"
"""An array where the model has one output, else a dict of arrays by name."""


def convert_sample(data: Any, spec: TensorSpec) -> Array:
    """One input of one step, as an array of the input's type and shape (any strides).

    Raises:
        SampleTypeError, SampleShapeError: it is not that.
    """
    array = convert_array(data, spec)
    if array.shape != spec.shape:
        raise SampleShapeError(
            f"input {spec.name!r}: expected shape {spec.shape}, got {array.shape}"
        )
    return array


def convert_block(data: Any, spec: TensorSpec) -> Array:
    """Frames of one input, `(n, *frame)`, as an array of the input's type (any strides).

    Raises:
        SampleTypeError, SampleShapeError: it is not that.
    """
    array = convert_array(data, spec)
    if array.size == 0 and array.ndim == 1 and not isinstance(data, np.ndarray):
        array = array.reshape((0, *spec.shape))
    if array.ndim != 1 + len(spec.shape) or array.shape[1:] != spec.shape:
        expected = ", ".join(["n", *map(str, spec.shape)])
        remedy = "; for a single frame use step()" if array.shape == spec.shape else ""
        raise SampleShapeError(
            f"input {spec.name!r}: expected a block of shape ({expected}), "
            f"got {array.shape}{remedy}"
        )
    return array


def convert_blocks(data: Any, specs: Sequence[TensorSpec]) -> list[Array]:
    """Blocks of all inputs, equally long.

    Raises:
        SampleTypeError, SampleShapeError, StreamError: they are not that.
    """
    items = by_name(data, specs)
    blocks = [convert_block(item, spec) for item, spec in zip(items, specs, strict=True)]
    if len({len(block) for block in blocks}) > 1:
        lengths = ", ".join(
            f"{spec.name!r} {len(block)}" for spec, block in zip(specs, blocks, strict=True)
        )
        raise SampleShapeError(f"the inputs have different numbers of frames: {lengths}")
    return blocks


def by_name(data: Any, specs: Sequence[TensorSpec]) -> list[Any]:
    """The inputs in order, out of a mapping by name; one input needs no mapping.

    Raises:
        StreamError: names are missing or unknown.
    """
    if not isinstance(data, Mapping):
        if len(specs) == 1:
            return [data]
        raise StreamError(
            f"the model has {len(specs)} inputs: pass a dict with {_names(specs)}, "
            f"not {type(data).__name__}"
        )
    missing = [spec.name for spec in specs if spec.name not in data]
    known = {spec.name for spec in specs}
    unknown = [str(name) for name in data if name not in known]
    if missing or unknown:
        complaints = []
        if missing:
            complaints.append(f"missing {', '.join(map(repr, missing))}")
        if unknown:
            complaints.append(f"unknown {', '.join(map(repr, unknown))}")
        raise StreamError(f"inputs by name: {'; '.join(complaints)}; the model has {_names(specs)}")
    return [data[spec.name] for spec in specs]


def refusal_error(array: Array, spec: TensorSpec, is_block: bool) -> StreamError:
    """The error that names the first element of a sample or block that the input does not take.

    Raises:
        InternalError: there is none.
    """
    places = np.argwhere(refused(array, spec))
    if len(places) == 0:
        raise InternalError(f"the code refused input {spec.name!r}, in which nothing is wrong")
    place = tuple(int(index) for index in places[0])
    element = place[1:] if is_block else place
    where = f" in frame {place[0]}" if is_block else ""
    index = f", element [{','.join(map(str, element))}]" if element else ""
    kind, reason = refusal_reason(array[place], spec, element)
    return kind(
        f"input {spec.name!r}{where}{index} {reason}: the sample is refused and the state is as "
        "before; repair, hold or skip such samples before they reach the model"
    )


def refusal_reason(
    value: Any, spec: TensorSpec, element: tuple[int, ...]
) -> tuple[type[StreamError], str]:
    """Why an element is refused, as the class of error and in words behind its name."""
    if spec.dtype.is_float and not np.isfinite(value):
        return NonFiniteSampleError, f"is {value}"
    if spec.dtype.is_float and not abs(value) <= spec.limit:
        return NonFiniteSampleError, (
            f"is {value}, and beyond a magnitude of {spec.limit:.4g} values in the model could "
            "become infinite or NaN"
        )
    # What is used is the number without its fraction.
    low, high = (int(end[element]) for end in element_ranges(spec))
    return SampleRangeError, (
        f"is {value}, which the model uses as an index or a length of {low} to {high}"
    )


def convert_array(data: Any, spec: TensorSpec) -> Array:
    """Samples of one input in its type, in whatever shape they come.

    Raises:
        SampleTypeError, SampleShapeError: they cannot be that.
    """
    dtype = spec.dtype.numpy
    # Looked up, not imported: NumPy loads it when it is first touched, within somebody's step.
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(data, masked.MaskedArray):
        raise SampleTypeError(
            f"input {spec.name!r}: masked arrays hide missing samples; fill them first"
        )
    if isinstance(data, (int, float, list, tuple)) and not isinstance(data, np.generic):
        return _from_numbers(data, spec)
    array = np.asarray(data)
    if array.dtype == dtype:
        return array
    if spec.dtype is DType.BF16 and array.dtype == RAW_HALF:
        return array.view(dtype)
    converted = _converted(array, spec)
    _warn_once(spec, array.dtype.name)
    return converted


_warned: set[tuple[str, str, str]] = set()


def _warn_once(spec: TensorSpec, found: str) -> None:
    """Tell it once in a process for each input and type."""
    expected = spec.dtype.numpy.name
    package = "ml_dtypes" if spec.dtype is DType.BF16 else "np"
    if (spec.name, expected, found) in _warned:
        return
    _warned.add((spec.name, expected, found))
    warnings.warn(
        f"input {spec.name!r} is {expected}, and gets {found}: it is converted in every step; "
        f"convert it once with .astype({package}.{expected})",
        SampleTypeWarning,
        stacklevel=2,
    )


def _from_numbers(data: Any, spec: TensorSpec) -> Array:
    """Python numbers."""
    try:
        array = np.asarray(data)
    except ValueError as exc:
        raise SampleShapeError(
            f"input {spec.name!r}: rows of different lengths, expected frames of shape {spec.shape}"
        ) from exc
    return _converted(array, spec)


def _converted(array: Array, spec: TensorSpec) -> Array:
    """In the input's type: integers may become floats, never the other way round."""
    dtype = spec.dtype.numpy
    if array.size == 0:
        return array.astype(dtype)
    if spec.dtype.is_float:
        fits = array.dtype.kind in "biu" or is_floating(array.dtype)
    else:
        fits = array.dtype.kind in ("b" if spec.dtype is DType.BOOL else "iu")
    if fits and dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        fits = limits.min <= int(array.min()) and int(array.max()) <= limits.max
    if not fits:
        raise SampleTypeError(
            f"input {spec.name!r}: {array.dtype.name} values cannot become {dtype.name} exactly; "
            f"pass an array of {dtype.name}"
        )
    # A number beyond the type's range becomes infinite here and is refused as such.
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
