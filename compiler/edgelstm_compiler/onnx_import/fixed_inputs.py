"""Inputs that the caller fixes: control inputs (a sampling rate, keep_prob) and weights.

The model is read as one that never had them: everything behind (import, ONNX Runtime, verification)
sees constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import InputInfo, OnnxModel


def fix_inputs(model: OnnxModel, constants: Mapping[str, Any]) -> OnnxModel:
    """The model with some of its inputs as constants.

    Args:
        model: as it was read.
        constants: numbers, lists or arrays by input name; converted to the input's type where that
            loses nothing, and one number fills an input of one element.

    Raises:
        ShapeError: no such input, or a value that does not fit it.
    """
    if not constants:
        return model
    infos = {item.name: item for item in model.inputs}
    arrays = {name: _fitted(name, value, infos) for name, value in constants.items()}
    return replace(
        model,
        proto=with_constants(model.proto, arrays),
        body=with_constants(model.body, arrays),
        inputs=tuple(item for item in model.inputs if item.name not in arrays),
    )


def with_constants(model: onnx.ModelProto, constants: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy in which these inputs are initializers; before IR 4 these stand among inputs, too."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if changed.ir_version >= 4:
        kept = [item for item in changed.graph.input if item.name not in constants]
        del changed.graph.input[:]
        changed.graph.input.extend(kept)
    changed.graph.initializer.extend(
        onnx.numpy_helper.from_array(data, name) for name, data in constants.items()
    )
    return changed


def _fitted(name: str, value: Any, infos: Mapping[str, InputInfo]) -> Array:
    if name not in infos:
        known = ", ".join(infos) or "none"
        raise ShapeError(f"--set {name}: the model has no such input; its inputs are: {known}")
    info = infos[name]
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        raise ShapeError(f"--set {name}: {value!r} is not of type {info.dtype.value}")
    with np.errstate(all="ignore"):
        data = given.astype(info.dtype.numpy)
    if not (info.dtype.is_float or np.array_equal(data, given)):
        raise ShapeError(f"--set {name}: {value!r} is not of type {info.dtype.value}")
    if info.dtype.is_float and not np.isfinite(data).all():
        raise ShapeError(f"--set {name}: {value!r} is not finite in {info.dtype.value}")
    dims = info.dims
    if dims is None:
        return data
    extents = [dim if isinstance(dim, int) else None for dim in dims]
    if data.size == 1 and all(extent in (1, None) for extent in extents):
        return data.reshape((1,) * len(extents))
    fits = len(extents) == data.ndim and all(
        extent is None or extent == found for extent, found in zip(extents, data.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"--set {name}: the value has the shape {data.shape}, expected {info}")
    return data
