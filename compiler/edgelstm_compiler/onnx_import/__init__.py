"""ONNX in, Graph out: the only room that knows onnx (and, in `peer.py`, onnxruntime)."""

from __future__ import annotations

from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import InputInfo, OnnxModel, read_model

__all__ = ["InputInfo", "OnnxModel", "import_graph", "read_model"]
