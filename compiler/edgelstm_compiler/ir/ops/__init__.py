"""The operators of the graph, one file per family."""

from __future__ import annotations

from edgelstm_compiler.ir.ops.elementwise import Arithmetic, Binary, Cast, Unary
from edgelstm_compiler.ir.ops.layout import Broadcast, Concat, Gather, Reshape, Slice, Transpose
from edgelstm_compiler.ir.ops.linear import Dense, MatMul
from edgelstm_compiler.ir.ops.normalization import LayerNorm, LogSoftmax, Softmax
from edgelstm_compiler.ir.ops.quantized import Dequantize, DequantizeWeights, Quantize, Storage
from edgelstm_compiler.ir.ops.quantized_int8 import (
    Int8Dense,
    Int8GRU,
    Int8LSTM,
    Int8Recurrent,
    Int8RNN,
)
from edgelstm_compiler.ir.ops.quantized_integer import (
    IntegerDense,
    IntegerGRU,
    IntegerLSTM,
    IntegerRecurrent,
    IntegerSoftmax,
)
from edgelstm_compiler.ir.ops.recurrent import GRU, LSTM, RNN, Direction, Recurrent

OPERATORS = (
    LSTM,
    GRU,
    RNN,
    Dense,
    MatMul,
    Binary,
    Unary,
    Cast,
    Softmax,
    LogSoftmax,
    LayerNorm,
    Transpose,
    Reshape,
    Broadcast,
    Slice,
    Gather,
    Concat,
    Quantize,
    Dequantize,
    DequantizeWeights,
    Int8LSTM,
    Int8GRU,
    Int8RNN,
    Int8Dense,
    IntegerLSTM,
    IntegerGRU,
    IntegerDense,
    IntegerSoftmax,
)
"""Every operator that may stand in a graph; text form and evaluation know these and no others."""

__all__ = [
    "GRU",
    "LSTM",
    "OPERATORS",
    "RNN",
    "Arithmetic",
    "Binary",
    "Broadcast",
    "Cast",
    "Concat",
    "Dense",
    "Dequantize",
    "DequantizeWeights",
    "Direction",
    "Gather",
    "Int8Dense",
    "Int8GRU",
    "Int8LSTM",
    "Int8RNN",
    "Int8Recurrent",
    "IntegerDense",
    "IntegerGRU",
    "IntegerLSTM",
    "IntegerRecurrent",
    "IntegerSoftmax",
    "LayerNorm",
    "LogSoftmax",
    "MatMul",
    "Quantize",
    "Recurrent",
    "Reshape",
    "Slice",
    "Softmax",
    "Storage",
    "Transpose",
    "Unary",
]
