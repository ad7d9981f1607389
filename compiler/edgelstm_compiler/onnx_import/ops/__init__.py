"""The import functions, one file per family, and the table of the ONNX operators they cover."""

from __future__ import annotations

from edgelstm_compiler.ir.ops import Arithmetic
from edgelstm_compiler.onnx_import.ops import (
    constant,
    elementwise,
    layout,
    linear,
    normalization,
    recurrent,
)
from edgelstm_compiler.onnx_import.ops.elementwise import ImportFunction

OPERATORS: dict[str, ImportFunction] = {
    "LSTM": recurrent.import_lstm,
    "GRU": recurrent.import_gru,
    "RNN": recurrent.import_rnn,
    "MatMul": linear.import_matmul,
    "Gemm": linear.import_gemm,
    "Add": elementwise.import_arithmetic(Arithmetic.ADD),
    "Sub": elementwise.import_arithmetic(Arithmetic.SUB),
    "Mul": elementwise.import_arithmetic(Arithmetic.MUL),
    "Div": elementwise.import_arithmetic(Arithmetic.DIV),
    "Min": elementwise.import_arithmetic(Arithmetic.MIN),
    "Max": elementwise.import_arithmetic(Arithmetic.MAX),
    "Sum": elementwise.import_arithmetic(Arithmetic.ADD),
    **elementwise.FUNCTIONS,
    "Abs": elementwise.import_abs,
    "Neg": elementwise.import_neg,
    "Clip": elementwise.import_clip,
    "PRelu": elementwise.import_prelu,
    "Pow": elementwise.import_pow,
    "Cast": elementwise.import_cast,
    "CastLike": elementwise.import_cast_like,
    "Softmax": normalization.import_softmax,
    "LogSoftmax": normalization.import_log_softmax,
    "LayerNormalization": normalization.import_layer_norm,
    "BatchNormalization": normalization.import_batch_norm,
    "Dropout": normalization.import_dropout,
    "Transpose": layout.import_transpose,
    "Reshape": layout.import_reshape,
    "Flatten": layout.import_flatten,
    "Squeeze": layout.import_squeeze,
    "Unsqueeze": layout.import_unsqueeze,
    "Slice": layout.import_slice,
    "Gather": layout.import_gather,
    "Concat": layout.import_concat,
    "Split": layout.import_split,
    "Expand": layout.import_expand,
    "Constant": constant.import_constant,
    "ConstantOfShape": constant.import_constant_of_shape,
    "Identity": constant.import_identity,
    "Shape": constant.import_shape,
    "Size": constant.import_size,
}
"""ONNX operator to import function; all others are refused where they depend on an input."""

__all__ = ["OPERATORS", "ImportFunction"]
