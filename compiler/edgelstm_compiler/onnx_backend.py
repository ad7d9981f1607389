"""The ONNX backend interface: `onnx.backend.base` on a target of ours, in call mode."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from edgelstm.artifact import Artifact
from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.fixed_inputs import with_constants
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.target import DEFAULT_TARGET

_CELL = (1, 2, 3, 7)
_CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _CELL),
    **dict.fromkeys(("Conv", "ConvTranspose"), (1, 2)),
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Split"), (1,)),
    **dict.fromkeys(("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean"), (1,)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare"), (1,)),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp"), (1,)),
    **dict.fromkeys(("TopK", "CumSum", "Trilu", "Pow", "PRelu", "Upsample"), (1,)),
    "BatchNormalization": (1, 2, 3, 4),
    "ConstantOfShape": (0,),
    "Dropout": (1, 2),
    "Loop": (0, 1),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (1, 2)),
    **dict.fromkeys(("ReverseSequence", "ArrayFeatureExtractor"), (1,)),
}
"""Inputs that are weights, shapes or axes: compiled code knows them ahead of time."""


class EdgeLSTMRep(BackendRep):
    """A prepared model; compiled for each set of input shapes when they are first seen.

    Weights, shapes and axes that come as inputs (so do those of ONNX's own node tests) are compiled
    in: each new set of them is compiled anew.
    """

    def __init__(self, model: onnx.ModelProto, target: str) -> None:
        self._model = read_model(model)
        self._proto = model
        self._target = target
        self._compiled: dict[Hashable, Artifact] = {}
        self._weights = {
            node.input[place]
            for node in model.graph.node
            for place in _CONSTANT_INPUTS.get(node.op_type, ())
            if place < len(node.input)
        } & {info.name for info in self._model.inputs}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the outputs.

        Args:
            inputs: arrays in the order of the model's inputs, or by name.
            kwargs: none are known.

        Returns:
            A named tuple of the outputs, in order.
        """
        del kwargs
        given = self._by_name(inputs)
        weights = {name: x for name, x in given.items() if name in self._weights}
        shapes = {name: x.shape for name, x in given.items() if name not in weights}
        key = (tuple(shapes.items()), *((name, x.tobytes()) for name, x in weights.items()))
        if key not in self._compiled:
            self._compiled[key] = compile_model(
                with_constants(self._proto, weights),
                target=self._target,
                mode="call",
                shapes=shapes,
                check=False,
            )
        artifact = self._compiled[key]
        used = {spec.name: given[spec.name] for spec in artifact.signature.inputs}
        result = artifact.session().call(used)
        names = [spec.name for spec in artifact.signature.outputs]
        arrays = [np.array(result[n] if isinstance(result, dict) else result) for n in names]
        # Names such as "" or "1" are no attributes: the tuple is by place all the same.
        fields = [name if name.isidentifier() else f"output_{i}" for i, name in enumerate(names)]
        outputs: tuple[Any, ...] = namedtupledict("Outputs", fields)(*arrays)
        return outputs

    def _by_name(self, inputs: Any) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            return {str(name): np.asarray(x) for name, x in inputs.items()}
        names = [info.name for info in self._model.inputs]
        arrays: Sequence[Any] = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return {name: np.asarray(x) for name, x in zip(names, arrays, strict=False)}


class EdgeLSTMBackend(Backend):
    """ONNX backend "CPU" on the default target."""

    target = DEFAULT_TARGET

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> EdgeLSTMRep:
        """Read a model; see `EdgeLSTMRep`.

        Raises:
            UnsupportedOpError: the device is not the CPU.
        """
        del kwargs
        if not cls.supports_device(device):
            raise UnsupportedOpError(f"the ONNX backend runs on CPU, not on {device!r}")
        return EdgeLSTMRep(model, cls.target)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Prepare and run at once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run a single operator.

        Args:
            node: the operator.
            inputs: an array for each of its inputs that is not left away.
            device: "CPU".
            outputs_info: ignored; types follow from the operator.
            kwargs: of the interface; `opset_version` is known.
        """
        del outputs_info
        names = [name for name in node.input if name]
        arrays = [np.asarray(x) for x in inputs]
        types = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
            )
            for name, x in zip(names, arrays, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", types, results)
        version = kwargs.get("opset_version") or onnx.defs.onnx_opset_version()
        opset = onnx.helper.make_opsetid("", version)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return cls.run_model(onnx.shape_inference.infer_shapes(model), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


prepare = EdgeLSTMBackend.prepare
run_model = EdgeLSTMBackend.run_model
run_node = EdgeLSTMBackend.run_node
supports_device = EdgeLSTMBackend.supports_device
