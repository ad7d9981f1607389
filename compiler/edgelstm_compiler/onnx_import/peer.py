"""ONNX Runtime as the peer that results and speed are compared with, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.ops.recurrent import ACTIVATIONS
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model

SOUND_RNN = (1, 31)
"""The oldest ONNX Runtime whose RNN activations were found sound; 1.23 (the last one for Python
3.10) takes their parameters by direction, and aborts where a list is shorter."""


class PeerUnavailableError(Exception):
    """ONNX Runtime is not installed, or does not take this model or these inputs.

    No fault of the model: callers fall back on the float64 evaluation.
    """


class OnnxRuntimePeer:
    """A session of ONNX Runtime on the CPU.

    Args:
        model: the model, or its path.
        threads: threads inside an operator; None leaves it to ONNX Runtime.
        dynamic: axes, by input name, whose static extent is to be free (a baked-in time length).
        extra_outputs: names of inner values to return as well; names it does not know are skipped.

    Raises:
        PeerUnavailableError: ONNX Runtime is missing, or refuses the model.
    """

    def __init__(
        self,
        model: OnnxModel | str | Path,
        *,
        threads: int | None = None,
        dynamic: Mapping[str, Sequence[int]] | None = None,
        extra_outputs: Sequence[str] = (),
    ) -> None:
        if not self.available():
            raise PeerUnavailableError("onnxruntime is not installed: pip install onnxruntime")
        import onnxruntime

        model = model if isinstance(model, OnnxModel) else read_model(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Else a product with restored weights rounds what it multiplies them with to eight bits.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if _is_older(onnxruntime.__version__, SOUND_RNN) and has_rnn_parameters(model.proto):
            raise PeerUnavailableError(
                f"onnxruntime {onnxruntime.__version__} reads activation_alpha and _beta of RNN "
                "wrongly, and may abort the process"
            )
        try:
            proto = _without_zip_maps(model.proto)
            if dynamic or extra_outputs:
                proto = _changed(proto, dynamic or {}, extra_outputs)
            self._session: Any = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except ModelError:
            raise
        except Exception as error:
            raise PeerUnavailableError(_reason("refuses the model", error)) from error
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.input_names = tuple(item.name for item in self._session.get_inputs())
        self.output_names = tuple(item.name for item in self._session.get_outputs())

    @staticmethod
    def available() -> bool:
        """Whether ONNX Runtime is installed."""
        return importlib.util.find_spec("onnxruntime") is not None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; inputs that the model does not have are ignored.

        Raises:
            PeerUnavailableError: ONNX Runtime refuses the inputs or fails.
        """
        feeds = {name: inputs[name] for name in self.input_names if name in inputs}
        return dict(zip(self.output_names, self.run_list(feeds), strict=True))

    def run_list(self, inputs: dict[str, Array]) -> list[Array]:
        """As `run`, but with exactly the model's inputs, and with nothing around the call.

        Raises:
            PeerUnavailableError: ONNX Runtime refuses the inputs or fails.
        """
        try:
            found: list[Array] = self._session.run(None, inputs)
        except Exception as error:
            raise PeerUnavailableError(_reason("does not run the model", error)) from error
        return found


def has_rnn_parameters(proto: onnx.ModelProto) -> bool:
    """Whether an RNN of the main graph has an activation that takes parameters."""
    for node in proto.graph.node:
        if node.op_type != "RNN":
            continue
        for attribute in node.attribute:
            names = attribute.strings if attribute.name == "activations" else ()
            rules = (ACTIVATIONS.get(name.decode("utf-8", "replace").lower()) for name in names)
            if any(rule is not None and rule.takes_alpha for rule in rules):
                return True
    return False


def _is_older(version: str, than: tuple[int, int]) -> bool:
    numbers = version.split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return False
    return (int(numbers[0]), int(numbers[1])) < than


def _changed(
    proto: onnx.ModelProto, dynamic: Mapping[str, Sequence[int]], extra_outputs: Sequence[str]
) -> onnx.ModelProto:
    """A copy with free axes and more outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    inputs = {item.name: item for item in graph.input}
    for name, axes in dynamic.items():
        if name not in inputs:
            raise PeerUnavailableError(f"the model has no input '{name}'")
        dims = inputs[name].type.tensor_type.shape.dim
        for axis in axes:
            dims[axis].dim_param = f"free_{name}_{axis}"
    if dynamic:
        # Shapes stored for the old extents would contradict the new ones.
        del graph.value_info[:]
        for item in graph.output:
            item.type.tensor_type.ClearField("shape")
    made = {name for node in graph.node for name in node.output if name}
    shown = {item.name for item in graph.output}
    for name in extra_outputs:
        if name in made and name not in shown:
            shown.add(name)
            graph.output.append(onnx.ValueInfoProto(name=name))
    return changed


def _without_zip_maps(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with tensors in place of the lists of dictionaries that a ZipMap gives."""
    if not any(node.op_type == "ZipMap" for node in proto.graph.node):
        return proto
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    zipped = set()
    for node in changed.graph.node:
        if node.op_type == "ZipMap":
            zipped.add(node.output[0])
            plain = onnx.helper.make_node("Identity", list(node.input), list(node.output))
            node.CopyFrom(plain)
    for item in changed.graph.output:
        if item.name in zipped:
            item.ClearField("type")
            item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    domains = {item.domain for item in changed.opset_import}
    if not domains & {"", "ai.onnx"}:
        changed.opset_import.append(onnx.helper.make_opsetid("", 13))
    return changed


def _reason(what: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"onnxruntime {what}: {text[:300]}"
