"""Broken ONNX files, each as the bytes that a user would have on disk, and the error it must give.

Every case is a function from a sound model to what is written to `model.onnx`; the file is read
and imported with the shapes that the case gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError

Break = Callable[[onnx.ModelProto], "onnx.ModelProto | bytes"]


@dataclass(frozen=True)
class Broken:
    """A way to break a model, and what must be said about it."""

    make: Break
    error: type[ModelError]
    match: str
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


def _serialized(change: Callable[[bytes], bytes]) -> Break:
    return lambda model: change(model.SerializeToString())


def _changed(change: Callable[[onnx.ModelProto], Any]) -> Break:
    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        change(model)
        return model

    return apply


def _weights(name: str, change: Callable[[Any], Any]) -> Break:
    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(change(_array(tensor)), name))
        return model

    return apply


def _array(tensor: onnx.TensorProto) -> Any:
    return numpy_helper.to_array(tensor).copy()


def _tensor(model: onnx.ModelProto, name: str) -> Any:
    tensors = {item.name: item for item in model.graph.initializer}
    return tensors[name]


def _external(location: str, **entries: str) -> Break:
    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        tensor = _tensor(model, "W")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        return model

    return apply


def _node(model: onnx.ModelProto) -> Any:
    return model.graph.node[0]


def _attribute(name: str, value: Any) -> Break:
    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        node = _node(model)
        kept = [item for item in node.attribute if item.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
        return model

    return apply


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        [
            helper.make_node("Add", ["Y", "b"], ["a"], name="first"),
            helper.make_node("Tanh", ["a"], ["b"], name="second"),
        ]
    )
    model.graph.output[0].name = "b"


def _self_loop(model: onnx.ModelProto) -> None:
    _node(model).input[0] = "Y"


def _in_branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph(
        [helper.make_node("Tanh", ["nobody"], ["r"], name="inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    model.graph.node.append(
        helper.make_node("If", ["c"], ["Q"], name="if", then_branch=inner, else_branch=inner)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "c"))
    model.graph.output[0].name = "Q"


def _input_type(kind: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        element = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
        types = {
            "sequence": helper.make_sequence_type_proto(element),
            "optional": helper.make_optional_type_proto(element),
            "map": helper.make_map_type_proto(TensorProto.INT64, element),
        }
        model.graph.input[0].type.CopyFrom(types[kind])

    return change


def _element_type(elem_type: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = elem_type

    return change


def _extent(axis: int, extent: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent

    return change


def _float_lens(model: onnx.ModelProto) -> None:
    _node(model).input.extend(["lens"] if len(_node(model).input) == 4 else [])
    model.graph.initializer.append(numpy_helper.from_array(np.array([3.0], np.float32), "lens"))


def _recursive_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    body = [helper.make_node("Again", ["a"], ["b"], domain="mine")]
    model.functions.append(helper.make_function("mine", "Again", ["a"], ["b"], body, opsets))
    model.graph.node.append(helper.make_node("Again", ["Y"], ["Q"], domain="mine"))
    model.graph.output[0].name = "Q"
    model.opset_import.append(helper.make_opsetid("mine", 1))


def _multiplying_functions(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    for level in range(40):
        name = f"F{level + 1}" if level < 39 else "Tanh"
        domain = "mine" if level < 39 else ""
        body = [
            helper.make_node(name, ["a"], ["t"], domain=domain),
            helper.make_node(name, ["t"], ["b"], domain=domain),
        ]
        model.functions.append(
            helper.make_function("mine", f"F{level}", ["a"], ["b"], body, opsets)
        )
    model.graph.node.append(helper.make_node("F0", ["Y"], ["Q"], domain="mine"))
    model.graph.output[0].name = "Q"
    model.opset_import.append(helper.make_opsetid("mine", 1))


def _sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.array([1.0], np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([0], np.int64), "where")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def _shrunk_raw(model: onnx.ModelProto) -> None:
    tensor = _tensor(model, "W")
    tensor.raw_data = tensor.raw_data[:-3]


def _dims(name: str, *dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        _tensor(model, name).dims[:] = dims

    return change


def _set_data_type(model: onnx.ModelProto) -> None:
    _tensor(model, "W").data_type = TensorProto.STRING


def _no_utf8(data: bytes) -> bytes:
    return data.replace(b"lstm_1", b"lst\xff_1")


def _nan(data: Any) -> Any:
    data[0, 1, 1] = np.nan
    return data


CASES: dict[str, Broken] = {
    # The file.
    "empty file": Broken(_serialized(lambda data: b""), ModelError, "is empty"),
    "text file": Broken(lambda model: b"not a model at all\n" * 9, ModelError, "not an ONNX model"),
    "zip file": Broken(lambda model: b"PK\x03\x04" + bytes(99), ModelError, "not an ONNX model"),
    "html page": Broken(
        lambda model: b"<!DOCTYPE html><html><body>404</body></html>",
        ModelError,
        "not an ONNX model",
    ),
    "truncated": Broken(
        _serialized(lambda data: data[: len(data) // 2]), ModelError, "not an ONNX model.*cut off"
    ),
    "last byte missing": Broken(
        _serialized(lambda data: data[:-1]), ModelError, "not an ONNX model.*cut off"
    ),
    "byte in the middle lost": Broken(
        _serialized(lambda data: data[:150] + data[151:]), ModelError, "not an ONNX model"
    ),
    "name that is no text": Broken(_serialized(_no_utf8), ModelError, "not UTF-8 text"),
    "git lfs pointer": Broken(
        lambda model: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ModelError,
        "not an ONNX model",
    ),
    "no graph": Broken(
        _changed(lambda model: model.ClearField("graph")), ModelError, "holds no graph"
    ),
    # Versions.
    "no IR version": Broken(
        _changed(lambda model: model.ClearField("ir_version")), ModelError, "IR version 0"
    ),
    "IR version too new": Broken(
        _changed(lambda model: setattr(model, "ir_version", 99)), ModelError, "IR version 99"
    ),
    "opset too new": Broken(
        _changed(lambda model: setattr(model.opset_import[0], "version", 999)),
        ModelError,
        "opset 999, expected 7 to",
    ),
    "opset too old": Broken(
        _changed(lambda model: setattr(model.opset_import[0], "version", 6)),
        ModelError,
        "opset 6, expected 7 to .*version_converter does not convert LSTM",
    ),
    "no opset": Broken(
        _changed(lambda model: model.ClearField("opset_import")), ModelError, "which ONNX opset"
    ),
    "two opsets": Broken(
        _changed(lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 11))),
        ModelError,
        "'ai.onnx' twice",
    ),
    # Stored tensors.
    "external data missing": Broken(
        _external("weights.bin"), ModelError, "'W' lies in 'weights.bin'.*no such file"
    ),
    "external data outside": Broken(
        _external("../../etc/passwd"), ModelError, "'W' .*not inside the model's folder"
    ),
    "external data absolute": Broken(
        _external("/etc/passwd"), ModelError, "'W' .*not inside the model's folder"
    ),
    "external data too short": Broken(
        _external("short.bin"), ModelError, "'W' needs 192 bytes at offset 0 of 'short.bin'"
    ),
    "external data offset beyond": Broken(
        _external("weights.data", offset="100000"), ModelError, "'W' needs 192 bytes at offset"
    ),
    "external data offset no number": Broken(
        _external("weights.data", offset="many"), ModelError, "'W': offset or length"
    ),
    "weights shorter than their shape": Broken(
        _changed(_shrunk_raw), ModelError, "'W' holds 189 bytes.*needs 192"
    ),
    "absurd weight extents": Broken(
        _changed(_dims("W", 1 << 40, 1 << 40)), ModelError, "'W' claims the shape"
    ),
    "huge extents beside a zero": Broken(
        _changed(_dims("W", 0, 1 << 62)), ModelError, "'W' claims the shape"
    ),
    "negative weight extent": Broken(
        _changed(_dims("W", 1, -16, 3)), ModelError, "'W' has a negative extent"
    ),
    "weights of texts": Broken(
        _changed(_set_data_type), ModelError, "'W' holds elements of type string"
    ),
    "sparse weights": Broken(_changed(_sparse), ModelError, "'sparse' is sparse"),
    # The graph.
    "cycle": Broken(
        _changed(_cycle), ModelError, "cycle: .*(Add 'first' <- Tanh 'second'|'second' <- Add)"
    ),
    "node that reads itself": Broken(
        _changed(_self_loop), ModelError, "cycle: LSTM 'lstm_1' <- LSTM 'lstm_1'"
    ),
    "no outputs": Broken(
        _changed(lambda model: model.graph.ClearField("output")), ModelError, "no outputs"
    ),
    "output of nobody": Broken(
        _changed(lambda model: setattr(model.graph.output[0], "name", "nobody")),
        ModelError,
        "output 'nobody' is produced by no node",
    ),
    "input of nobody": Broken(
        _changed(lambda model: _node(model).input.__setitem__(0, "ghost")),
        ModelError,
        "LSTM 'lstm_1' reads 'ghost'",
    ),
    "input of nobody in a branch": Broken(
        _changed(_in_branch), ModelError, "If 'if' reads 'nobody'"
    ),
    "two producers": Broken(
        _changed(
            lambda model: model.graph.node.append(helper.make_node("Tanh", ["X"], ["Y"], name="t"))
        ),
        ModelError,
        "Tanh 't' produces 'Y', and so does LSTM 'lstm_1'",
    ),
    "initializer twice": Broken(
        _changed(lambda model: model.graph.initializer.append(_tensor(model, "W"))),
        ModelError,
        "initializer 'W' is declared twice",
    ),
    "input twice": Broken(
        _changed(lambda model: model.graph.input.append(model.graph.input[0])),
        ModelError,
        "input 'X' is declared twice",
    ),
    "unknown attribute": Broken(_attribute("speed", 3), ModelError, "not valid ONNX.*speed"),
    "attribute of the wrong type": Broken(
        _attribute("hidden_size", "four"), ModelError, "not valid ONNX.*hidden_size"
    ),
    "no such operator": Broken(
        _changed(lambda model: setattr(_node(model), "op_type", "LTSM")),
        UnsupportedOpError,
        "LTSM 'lstm_1': no such ONNX operator in opset 17",
    ),
    "removed operator": Broken(
        _changed(
            lambda model: model.graph.node.append(
                helper.make_node("Upsample", ["X", "W"], ["Q"], name="up")
            )
        ),
        UnsupportedOpError,
        "Upsample 'up': removed from ONNX in opset 10",
    ),
    "function that calls itself": Broken(
        _changed(_recursive_function), ModelError, "in a circle: 'mine.Again' -> 'mine.Again'"
    ),
    "functions that multiply": Broken(
        _changed(_multiplying_functions), ModelError, "unfold to [0-9]* nodes"
    ),
    # Inputs.
    "sequence input": Broken(
        _changed(_input_type("sequence")), ModelError, "'X' is of type sequence"
    ),
    "optional input": Broken(
        _changed(_input_type("optional")), ModelError, "'X' is of type optional"
    ),
    "map input": Broken(_changed(_input_type("map")), ModelError, "'X' is of type map"),
    "text input": Broken(
        _changed(_element_type(TensorProto.STRING)), ModelError, "'X' has elements of type string"
    ),
    "complex input": Broken(
        _changed(_element_type(TensorProto.COMPLEX64)), ModelError, "'X' has elements of type compl"
    ),
    "bfloat16 beside float32": Broken(
        _changed(_element_type(TensorProto.BFLOAT16)), ModelError, "element types do not fit"
    ),
    "float8 input": Broken(
        _changed(_element_type(TensorProto.FLOAT8E5M2)),
        ModelError,
        "'X' has elements of type float8",
    ),
    "float64 input": Broken(
        _changed(_element_type(TensorProto.DOUBLE)),
        ModelError,
        r"element types do not fit.*lstm_1.*inconsistent type",
    ),
    "absurd time extent": Broken(
        _changed(_extent(0, 1 << 50)), ShapeError, "'X' has the shape .*is an extent wrong"
    ),
    "zero batch": Broken(_changed(_extent(1, 0)), ShapeError, r"'X' has the shape \(5, 0, 3\)"),
    "dynamic and not given": Broken(
        _changed(lambda model: setattr(_dim(model, 0), "dim_param", "time")),
        ShapeError,
        r"'X' has the dynamic shape \(time, 1, 3\).*--shape X=",
    ),
    "given against the model": Broken(
        _changed(lambda model: None), ShapeError, "says 7 for axis 2", {"X": (5, 1, 7)}
    ),
    # Recurrent layers.
    "zero hidden size": Broken(
        _attribute("hidden_size", 0), ShapeError, "LSTM 'lstm_1': hidden_size is 0"
    ),
    "hidden size of other weights": Broken(
        _attribute("hidden_size", 9), ShapeError, "LSTM 'lstm_1': hidden_size 9 wants 36 rows"
    ),
    "weights of two axes": Broken(
        _weights("W", lambda data: data[0]), ShapeError, "LSTM 'lstm_1': W has shape"
    ),
    "weights of zero units": Broken(
        _weights("R", lambda data: data[:, :0, :0]), ShapeError, "LSTM 'lstm_1'"
    ),
    "weights of other features": Broken(
        _weights("W", lambda data: data[:, :, :2]),
        ShapeError,
        r"LSTM 'lstm_1': W has shape \(1, 16, 2\), expected \(1, 16, 3\)",
    ),
    "bias too short": Broken(
        _weights("B", lambda data: data[:, :-1]), ShapeError, "LSTM 'lstm_1': B has shape"
    ),
    "bias of integers": Broken(
        _weights("B", lambda data: data.astype(np.int32)), ShapeError, "LSTM 'lstm_1': B is i32"
    ),
    "NaN weights": Broken(
        _weights("W", _nan), ModelError, r"LSTM 'lstm_1'.*'W' holds nan at \[0, 1, 1\]"
    ),
    "infinite weights": Broken(
        _weights("R", lambda data: data / np.float32(0)), ModelError, "'R' holds (-?inf|nan)"
    ),
    "float sequence_lens": Broken(
        _changed(_float_lens), UnsupportedOpError, "LSTM 'lstm_1': sequence_lens 'lens'.*float32"
    ),
    "X of two axes": Broken(
        _changed(lambda model: model.graph.input[0].type.tensor_type.shape.dim.pop()),
        ShapeError,
        "LSTM 'lstm_1': X has shape",
    ),
    "unknown direction": Broken(
        _attribute("direction", "sideways"), UnsupportedOpError, "direction 'sideways'"
    ),
    "zero clip": Broken(_attribute("clip", 0.0), UnsupportedOpError, "clip is 0"),
}


def _dim(model: onnx.ModelProto, axis: int) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim[axis]
