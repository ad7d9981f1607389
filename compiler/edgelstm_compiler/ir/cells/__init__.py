"""The cells that ONNX has: one file each, which nothing else needs to know."""

from __future__ import annotations

from edgelstm_compiler.ir.cells.gru import GRU
from edgelstm_compiler.ir.cells.lstm import LSTM
from edgelstm_compiler.ir.cells.rnn import RNN
from edgelstm_compiler.ir.ops.recurrent import Recurrent

CELLS: tuple[type[Recurrent], ...] = (LSTM, GRU, RNN)
"""Every cell that text forms and stored graphs may name."""

__all__ = ["CELLS", "GRU", "LSTM", "RNN"]
