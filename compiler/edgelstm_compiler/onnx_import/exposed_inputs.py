"""Inputs that have a default in the file: initial states, and (in old files) every weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel, input_info
from edgelstm_compiler.onnx_import.tensors import to_array


def defaults_of(model: OnnxModel) -> dict[str, Array]:
    """What inputs are unless a caller says otherwise, by name."""
    names = {item.name for item in model.body.graph.input}
    return {t.name: to_array(t) for t in model.body.graph.initializer if t.name in names}


def are_all_exposed(model: OnnxModel) -> bool:
    """Whether every stored tensor is an input, too: the exporter's habit, and says nothing."""
    names = {item.name for item in model.body.graph.input}
    return model.body.ir_version < 4 or all(
        tensor.name in names for tensor in model.body.graph.initializer
    )


def expose_inputs(model: OnnxModel, names: Iterable[str]) -> OnnxModel:
    """The model with these inputs asked of the caller, their defaults left out."""
    chosen = frozenset(names)
    if not chosen:
        return model
    kept = {info.name: info for info in model.inputs}
    body = _without(model.body, chosen)
    inputs = [
        kept.get(item.name) or input_info(item)
        for item in body.graph.input
        if item.name in kept or item.name in chosen
    ]
    return replace(model, proto=_without(model.proto, chosen), body=body, inputs=tuple(inputs))


def _without(model: onnx.ModelProto, names: frozenset[str]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    stored = [tensor for tensor in changed.graph.initializer if tensor.name not in names]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(stored)
    return changed
