"""Which files an ONNX model consists of; what they hold is read in `read.py`."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgelstm_compiler.onnx_import.tensors import attribute_tensors, stored_tensors


def model_files(path: Path) -> tuple[Path, ...]:
    """The file of a model, those beside it that its external data lies in, and its description.

    A file that is no readable model stands alone: `read_model` says what is wrong with it.
    """
    if not path.is_file():
        return (path,)
    description = path.with_suffix(".toml")
    try:
        model = onnx.load_model(path, load_external_data=False)
        tensors = list(stored_tensors(model.graph))
        for function in model.functions:
            tensors += attribute_tensors(function.node)
        locations = {
            entry.value
            for tensor in tensors
            for entry in tensor.external_data
            if entry.key == "location"
        }
    except Exception:  # damaged files fail in many ways
        return (path, description)
    return (path, description, *(path.parent / name for name in sorted(locations) if name))
