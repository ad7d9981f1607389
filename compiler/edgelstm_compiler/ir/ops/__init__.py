"""The operators of the graph, one file per family."""

from __future__ import annotations

from edgelstm_compiler.ir.ops.convolution import Convolve, Pad
from edgelstm_compiler.ir.ops.elementwise import Arithmetic, Binary, Cast, Remainder, Unary
from edgelstm_compiler.ir.ops.indexing import (
    GatherElements,
    GatherND,
    Merge,
    ScatterElements,
    ScatterND,
)
from edgelstm_compiler.ir.ops.layout import (
    Broadcast,
    Concat,
    Gather,
    Reshape,
    Slice,
    Taken,
    Transpose,
)
from edgelstm_compiler.ir.ops.linear import Dense, MatMul
from edgelstm_compiler.ir.ops.logic import (
    Compare,
    Comparison,
    Connective,
    Logic,
    Not,
    Where,
)
from edgelstm_compiler.ir.ops.normalization import LayerNorm, LogSoftmax, Softmax
from edgelstm_compiler.ir.ops.quantized import Dequantize, DequantizeWeights, Quantize, Storage
from edgelstm_compiler.ir.ops.quantized_int8 import Int8Dense, Int8Recurrent
from edgelstm_compiler.ir.ops.quantized_integer import (
    IntegerDense,
    IntegerRecurrent,
    IntegerSoftmax,
)
from edgelstm_compiler.ir.ops.recurrent import Direction, Recurrent
from edgelstm_compiler.ir.ops.reduction import (
    ArgReduce,
    CumSum,
    Reduce,
    Reduction,
    TopKIndices,
)
from edgelstm_compiler.ir.ops.scan import Body, BodyNode, Scan
from edgelstm_compiler.ir.ops.windows import WindowReduce, Windows
from edgelstm_compiler.ir.types import Op

OPERATORS: tuple[type[Op], ...] = (
    Dense,
    MatMul,
    Binary,
    Remainder,
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
    Compare,
    Logic,
    Not,
    Where,
    Reduce,
    ArgReduce,
    TopKIndices,
    CumSum,
    Windows,
    WindowReduce,
    Pad,
    Convolve,
    GatherElements,
    ScatterElements,
    GatherND,
    ScatterND,
    Scan,
    Quantize,
    Dequantize,
    DequantizeWeights,
    Int8Recurrent,
    Int8Dense,
    IntegerRecurrent,
    IntegerDense,
    IntegerSoftmax,
)
"""Every operator that may stand in a graph, beside those of `ir.cells`."""

__all__ = [
    "OPERATORS",
    "ArgReduce",
    "Arithmetic",
    "Binary",
    "Body",
    "BodyNode",
    "Broadcast",
    "Cast",
    "Compare",
    "Comparison",
    "Concat",
    "Connective",
    "Convolve",
    "CumSum",
    "Dense",
    "Dequantize",
    "DequantizeWeights",
    "Direction",
    "Gather",
    "GatherElements",
    "GatherND",
    "Int8Dense",
    "Int8Recurrent",
    "IntegerDense",
    "IntegerRecurrent",
    "IntegerSoftmax",
    "LayerNorm",
    "LogSoftmax",
    "Logic",
    "MatMul",
    "Merge",
    "Not",
    "Pad",
    "Quantize",
    "Recurrent",
    "Reduce",
    "Reduction",
    "Remainder",
    "Reshape",
    "Scan",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "Softmax",
    "Storage",
    "Taken",
    "TopKIndices",
    "Transpose",
    "Unary",
    "Where",
    "WindowReduce",
    "Windows",
]
