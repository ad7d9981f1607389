"""Checks of the tensors stored in a model, and their arrays; nothing is allocated unchecked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgelstm.dtypes import is_floating
from edgelstm.errors import ModelError
from edgelstm_compiler.ir.types import Array

MAX_TENSOR_BYTES = 1 << 31
"""No tensor of a model that runs at the edge is larger; a larger one is a damaged file."""

ELEMENT_TYPES: dict[int, np.dtype[np.generic]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.INT64: np.dtype(np.int64),
    onnx.TensorProto.UINT64: np.dtype(np.uint64),
    onnx.TensorProto.INT32: np.dtype(np.int32),
    onnx.TensorProto.UINT32: np.dtype(np.uint32),
    onnx.TensorProto.INT16: np.dtype(np.int16),
    onnx.TensorProto.UINT16: np.dtype(np.uint16),
    onnx.TensorProto.INT8: np.dtype(np.int8),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
    onnx.TensorProto.BOOL: np.dtype(np.bool_),
    **{
        code: onnx.helper.tensor_dtype_to_np_dtype(code)
        for code in (
            onnx.TensorProto.BFLOAT16,
            onnx.TensorProto.INT4,
            onnx.TensorProto.UINT4,
        )
    },
}
"""Element types that are read; the 4 and 8 bit floats, 2 bit integers, texts and others are not."""

OTHER_CODES = frozenset(
    (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
)
"""Floats in which nothing is computed."""

OTHER_FLOATS = tuple(ELEMENT_TYPES[code] for code in sorted(OTHER_CODES))

_PACKED = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
"""Two elements in a byte."""

_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.UINT32: "uint64_data",
}
"""The typed field that holds an element type; all others use `int32_data`."""


def is_other_float(dtype: np.dtype[Any]) -> bool:
    """Whether it is float16, float64 or bfloat16."""
    return dtype in OTHER_FLOATS


def element_name(elem_type: int) -> str:
    """The ONNX name of an element type, for messages."""
    try:
        return str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    except ValueError:
        return f"number {elem_type}"


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph stores: initializers and attributes, sub-graphs included."""
    yield from graph.initializer
    yield from attribute_tensors(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from stored_tensors(attribute.g)
            for inner in attribute.graphs:
                yield from stored_tensors(inner)


def attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """The tensors that nodes hold as attributes, each named after its node where it has no name."""
    for node in nodes:
        for attribute in node.attribute:
            tensors = list(attribute.tensors)
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
            for tensor in tensors:
                if not tensor.name:
                    tensor.name = node.output[0] if node.output else node.name
                yield tensor


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Refuse a tensor whose type, extents and stored bytes do not belong together.

    Raises:
        ModelError: the tensor's name, what was found and what was expected.
    """
    where = f"tensor '{tensor.name}'"
    if tensor.data_type not in ELEMENT_TYPES:
        raise ModelError(
            f"{where} holds elements of type {element_name(tensor.data_type)}, which edgelstm "
            "does not read; convert the model to float32"
        )
    if any(extent < 0 for extent in tensor.dims):
        raise ModelError(
            f"{where} has a negative extent: {tuple(tensor.dims)}; the file is damaged"
        )
    count = math.prod(tensor.dims)
    itemsize = ELEMENT_TYPES[tensor.data_type].itemsize
    nbytes = _stored_bytes(tensor)
    # Extents beside a zero count, too: NumPy takes their product for the strides.
    if itemsize * math.prod(max(extent, 1) for extent in tensor.dims) > MAX_TENSOR_BYTES:
        raise ModelError(
            f"{where} claims the shape {tuple(tensor.dims)} of {element_name(tensor.data_type)}; "
            f"the largest tensor that is read has {MAX_TENSOR_BYTES} bytes"
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    if tensor.HasField("raw_data"):
        found, expected, unit = len(tensor.raw_data), nbytes, "bytes"
    else:
        field = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
        found, expected, unit = len(field), count, "elements"
        if tensor.data_type in _PACKED:
            expected = nbytes
    if found != expected:
        raise ModelError(
            f"{where} holds {found} {unit}, its shape {tuple(tensor.dims)} of "
            f"{element_name(tensor.data_type)} needs {expected}; the file is damaged"
        )


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the elements take in a file."""
    count = int(math.prod(tensor.dims))
    if tensor.data_type in _PACKED:
        return -(-count // 2)
    return count * ELEMENT_TYPES[tensor.data_type].itemsize


def load_external(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Read the data of a tensor that lies in a file of its own beside the model.

    Raises:
        ModelError: the file is missing, too short, or outside the model's folder.
    """
    where = f"tensor '{tensor.name}'"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(
            f"{where} lies in the file '{location}' beside the model, and the model was given "
            "without a path; give the path of the .onnx file"
        )
    path = Path(location)
    if not location or path.is_absolute() or ".." in path.parts:
        raise ModelError(
            f"{where} lies in '{location}', which is not inside the model's folder; "
            "save the model again with its data beside it"
        )
    target = folder / path
    if not target.is_file():
        raise ModelError(
            f"{where} lies in '{location}', and there is no such file in {folder}; "
            "copy it beside the model"
        )
    expected = _stored_bytes(tensor)
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries.get("length", "") or expected)
    except ValueError as error:
        raise ModelError(f"{where}: offset or length of its external data is no number") from error
    size = target.stat().st_size
    if length != expected or offset < 0 or offset + expected > size:
        raise ModelError(
            f"{where} needs {expected} bytes at offset {offset} of '{location}', which declares "
            f"{length} and has {size} bytes; the data file is damaged or belongs to another model"
        )
    try:
        with target.open("rb") as file:
            file.seek(offset)
            data = file.read(expected)
    except OSError as error:
        raise ModelError(f"{where}: cannot read '{location}': {error.strerror}") from error
    if len(data) != expected:
        raise ModelError(f"{where}: '{location}' ended while it was read")
    tensor.raw_data = data
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def to_array(tensor: onnx.TensorProto) -> Array:
    """The elements of a tensor that `check_tensor` has passed."""
    return np.asarray(numpy_helper.to_array(tensor))


def integer_limits(dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Smallest and largest integer of a type, those of 4 bits included; None: no integers."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return int(info.min), int(info.max)
    return _SMALL_LIMITS.get(dtype)


_SMALL_LIMITS: dict[np.dtype[Any], tuple[int, int]] = {
    ELEMENT_TYPES[onnx.TensorProto.INT4]: (-8, 7),
    ELEMENT_TYPES[onnx.TensorProto.UINT4]: (0, 15),
}


def first_non_finite(data: Array) -> tuple[int, ...] | None:
    """Index of the first NaN or infinity, or None."""
    if not is_floating(data.dtype):
        return None
    bad = ~np.isfinite(data)
    if not bad.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), data.shape))
