"""The rows of README's support table, each with the models that prove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attention_models import attention_model, band, contributed, operator, packed, where
from tests.carried_models import packed_cells
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.unit.onnx_import.loop_models import LOOPS, counted_loop, model, scan, uneven_loop
from tests.unit.onnx_import.one_node import graph_model, normal, one_node

Make = Callable[[], onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what becomes of it.

    Args:
        make: the model.
        stream: part of the refusal, "" where it compiles, None where nothing is said.
        call: the same of call mode.
        options: of `compile_model`.
    """

    make: Make
    stream: str | None = ""
    call: str | None = ""
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Args:
        what: first column.
        stream: second column.
        call: third column.
        cases: what proves them.
    """

    what: str
    stream: str
    call: str
    cases: tuple[Case, ...]


def behind_lstm(op: str, *operands: Any, **attributes: Any) -> Make:
    """An operator behind an LSTM of 7 frames."""

    def make() -> onnx.ModelProto:
        made = lstm_model(features=3, hidden=4, steps=7, batch=1, outputs=("Y",))
        (shown,) = (item.name for item in made.graph.output)
        names = [f"c{k}" for k in range(len(operands))]
        made.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(data), name)
            for name, data in zip(names, operands, strict=True)
        )
        made.graph.node.append(helper.make_node(op, [shown, *names], ["out"], **attributes))
        del made.graph.output[:]
        made.graph.output.append(onnx.ValueInfoProto(name="out"))
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        return made

    return make


def node(op: str, *operands: Any, **options: Any) -> Make:
    """One operator by itself."""
    return lambda: one_node(op, list(operands), **options)[0]


def in_half(code: int) -> onnx.ModelProto:
    """An LSTM in another float."""
    made = lstm_model(features=3, hidden=4, steps=5)
    for tensor in made.graph.initializer:
        data = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(code))
        tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))
    for item in (*made.graph.input, *made.graph.output):
        item.type.tensor_type.elem_type = code
    return made


def stored_in_bytes() -> onnx.ModelProto:
    """A product with weights in int8."""
    codes = np.arange(24, dtype=np.int8).reshape(6, 4)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"q": codes, "s": np.asarray(0.1, np.float32)}
    return graph_model(nodes, {"x": normal(2, 6)}, ["y"], constants)


def with_classes() -> onnx.ModelProto:
    """Scaling in front, probabilities by class name behind."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0]),
        helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node(
            "ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]
        ),
    ]
    made = graph_model(nodes, {"x": normal(1, 3)}, ["y"], domains={"ai.onnx.ml": 3})
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    zipped = helper.make_map_type_proto(TensorProto.STRING, value)
    made.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(zipped))
    return made


def of_words() -> onnx.ModelProto:
    """An embedding of numbers in front of an LSTM."""
    made = lstm_model(features=3, hidden=4, steps=5, batch=1)
    x = made.graph.input[0]
    inner = x.name
    table = numpy_helper.from_array(normal(10, 3), "table")
    made.graph.initializer.append(table)
    made.graph.node.insert(0, helper.make_node("Gather", ["table", "ids"], [inner]))
    x.CopyFrom(helper.make_tensor_value_info("ids", TensorProto.INT64, [5, 1]))
    return made


def fixed() -> onnx.ModelProto:
    """A model whose If depends on an input."""
    branches = {}
    for name, factor in (("then_branch", 2.0), ("else_branch", 3.0)):
        value = numpy_helper.from_array(np.asarray(factor, np.float32), f"{name}_f")
        nodes = [helper.make_node("Mul", ["x", f"{name}_f"], [f"{name}_y"])]
        shown = [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)]
        branches[name] = helper.make_graph(nodes, name, [], shown, [value])
    nodes = [
        helper.make_node("Greater", ["rate", "limit"], ["is_high"]),
        helper.make_node("If", ["is_high"], ["y"], **branches),
    ]
    constants = {"limit": np.asarray(8000, np.int64)}
    given = {"x": normal(2, 3), "rate": np.asarray(16000, np.int64)}
    return graph_model(nodes, given, ["y"], constants)


NEVER_KNOWN = "the last frame of a stream"
MIXES = "attention over time|needs all frames|needs them all|mixes frames"
NOTHING = "nothing is carried"

ROWS = (
    Row(
        "LSTM, GRU (`linear_before_reset` 0 and 1), RNN: all eleven activations with alpha and "
        "beta, clip, `input_forget`, peepholes, bias, constant initial states, layout 0 and 1",
        "yes",
        "yes",
        (
            Case(lambda: lstm_model(features=3, hidden=4, steps=5, peepholes=True)),
            Case(lambda: gru_model(features=3, hidden=4, steps=5, linear_before_reset=1)),
            Case(lambda: rnn_model(features=3, hidden=4, steps=5, clip=0.5)),
            Case(
                lambda: stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence"), call=None
            ),
        ),
    ),
    Row(
        "direction reverse, bidirectional",
        "refused: the last frame of a stream is never known; `--lookahead L`: a bounded look-ahead",
        "yes",
        (
            Case(lambda: lstm_model(steps=5, direction="reverse"), NEVER_KNOWN),
            Case(lambda: gru_model(steps=5, direction="bidirectional"), NEVER_KNOWN),
        ),
    ),
    Row(
        "`sequence_lens`",
        "constant and complete",
        "yes, as input too",
        (
            Case(lambda: lstm_model(steps=5, batch=2, sequence_lens=(5, 5))),
            Case(lambda: lstm_model(steps=5, batch=2, sequence_lens="input"), "sequence_lens are"),
        ),
    ),
    Row(
        "states as inputs and outputs (h, c, caches; packed, sliced, stacked; without a recurrent "
        "operator too)",
        "yes: one call is a step, pairs are found (`inspect`), `--carry IN=OUT`, `--overlap N`, "
        "`set_state`",
        "yes",
        (Case(lambda: packed_cells(np.random.default_rng(5)).model),),
    ),
    Row(
        '"last step" outputs (`Y_h`, Gather -1, Slice)',
        "any-time outputs",
        "yes",
        (
            Case(lambda: lstm_model(steps=None, outputs=("Y_h",)), call=None),
            Case(lambda: gru_model(steps=5, outputs=("Y_h",))),
        ),
    ),
    Row(
        "a time length baked in as a static extent",
        "`--hop S`: windows as they were trained; `--mode stream` lifts the length, with a warning",
        "yes",
        (Case(lambda: rnn_model(steps=7, outputs=("Y_h",))),),
    ),
    Row(
        "a model exported with one frame",
        "a step: its states are carried",
        "yes",
        (Case(lambda: lstm_model(steps=1)),),
    ),
    Row(
        "cells written out (layer-norm LSTM, minGRU, ConvLSTM, ...): body of Scan or Loop with "
        "any operators, or unrolled frame by frame",
        "yes: the body is the step, what it carries are states; where it is an LSTM, GRU or RNN, "
        "it becomes the operator",
        "yes: one body, run once a frame; turns that are no pattern are laid out one by one",
        (
            Case(lambda: model([scan()])),
            Case(lambda: counted_loop("T"), call=None),
            *(Case(make, None) for make in LOOPS.values()),
            Case(uneven_loop, "unrolled"),
        ),
    ),
    Row(
        "Gemm, MatMul, arithmetic, functions of single elements, normalization over features, "
        "Softmax and LogSoftmax over features, what moves elements of a frame, constant `If`",
        "per frame",
        "yes",
        (
            Case(behind_lstm("Tanh")),
            Case(behind_lstm("Softmax", axis=-1)),
            Case(behind_lstm("Mul", np.float32(2))),
            Case(behind_lstm("ReduceMean", axes=[3])),
        ),
    ),
    Row(
        "self-attention over the frames: written out, Attention of ONNX, Attention and "
        "MultiHeadAttention of com.microsoft",
        "where its mask is a causal band: keys and values of so many frames are kept; else "
        "refused, `--attention-context W`: of the newest W, another function whose distance is "
        "told",
        "yes",
        (
            Case(lambda: attention_model([where(band(9, 3))], 9)),
            Case(lambda: attention_model([operator(band(9, 3))], 9)),
            Case(lambda: attention_model([contributed(band(9, 3))], 9)),
            Case(lambda: attention_model([packed(band(9, 3))], 9)),
            Case(lambda: attention_model([where(band(9, 9))], 9), "attention over time"),
            Case(lambda: attention_model([operator()], 9), "attention over time"),
        ),
    ),
    Row(
        "attention to other sequences, softmax over time that is shown, Flatten over time",
        "refused, with the reason",
        "yes",
        (
            Case(behind_lstm("Softmax", axis=0), "needs all frames"),
            Case(
                node(
                    "Attention",
                    *(normal(1, 5, 8, seed=k) for k in range(3)),
                    runtime=(0, 1, 2),
                    opset=23,
                    q_num_heads=2,
                    kv_num_heads=2,
                ),
                NOTHING,
            ),
        ),
    ),
    Row(
        "Conv, Max/Average/Lp pooling, Pad (constant, edge, reflect; wrap is refused), Slice and "
        "Concat with constants along time: any kernel, stride, dilation and padding",
        "rings of the newest frames; the output's rate and delay are told, `finish()` gives its "
        "end",
        "yes",
        (
            Case(node("Conv", normal(1, 3, 9), normal(4, 3, 3, seed=1))),
            Case(node("MaxPool", normal(1, 3, 9), kernel_shape=[2], strides=[2])),
            Case(behind_lstm("Pad", np.array([2, 0, 0, 0, 1, 0, 0, 0]), mode="reflect")),
            Case(behind_lstm("Pad", np.array([0, 0, 0, 0, 1, 0, 0, 0]), mode="edge")),
        ),
    ),
    Row(
        "Sum, Mean, Max, Min, Prod, L1, L2, LogSumExp, ArgMax, ArgMin, CumSum, global pooling and "
        "attention pooling over time",
        "any-time outputs of a finite state",
        "yes",
        (
            Case(behind_lstm("ReduceMax", axes=[0])),
            Case(behind_lstm("ReduceMean", axes=[0])),
            Case(behind_lstm("ReduceLogSumExp", axes=[0])),
            Case(behind_lstm("ArgMax", axis=0)),
        ),
    ),
    Row(
        "ConvTranspose, Resize, ranking, logic, computed "
        "indices, Einsum and the other operators that "
        "[OPERATORS.md](compiler/edgelstm_compiler/onnx_import/OPERATORS.md) lists",
        "per frame, where they do not reach along time; else refused, with the reason",
        "yes",
        (Case(node("TopK", normal(2, 6), np.array([3]), outputs=2, opset=11), NOTHING),),
    ),
    Row(
        "sequences of tensors of known length",
        "where a loop walks along them",
        "yes",
        (Case(LOOPS["lists"], None),),
    ),
    Row(
        "embedding of numbers (int32, int64)",
        "per frame",
        "yes",
        (Case(of_words),),
    ),
    Row(
        "weights stored in int8, uint8, int16, uint16, int4, uint4 (QuantizeLinear, "
        "DequantizeLinear; a scale for all, a row or a block)",
        "folded",
        "folded",
        (Case(stored_in_bytes, None),),
    ),
    Row(
        "ai.onnx.ml: Scaler, Normalizer, LabelEncoder of numbers, Binarizer, "
        "ArrayFeatureExtractor, ZipMap (its names become the output's labels)",
        "per frame",
        "yes",
        (Case(with_classes, None),),
    ),
    Row(
        "models in float16, bfloat16 and float64",
        "types kept at the edges, arithmetic in float32",
        "the same",
        (
            Case(lambda: in_half(TensorProto.FLOAT16)),
            Case(lambda: in_half(TensorProto.BFLOAT16)),
            Case(lambda: in_half(TensorProto.DOUBLE)),
        ),
    ),
    Row(
        "control inputs (a sampling rate that an `If` depends on), weights as inputs",
        "fixed by `--set NAME=VALUE`",
        "the same",
        (
            Case(fixed, None, "its condition is computed"),
            Case(fixed, None, "", (("constants", {"rate": 16000}),)),
        ),
    ),
    Row(
        "random operators, sequences of tensors as outputs, strings",
        "refused, with the way out",
        "refused, with the way out",
        (Case(node("RandomNormalLike", normal(2, 3)), "random numbers", "random numbers"),),
    ),
)
