"""How each cell's weights feed its sums: one file per cell."""

from __future__ import annotations

from edgelstm_compiler.ir.kernels import Phase
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_compiler.lowering.cells.gru import gru_phases
from edgelstm_compiler.lowering.cells.lstm import lstm_phases
from edgelstm_compiler.lowering.cells.rnn import rnn_phases


def cell_phases(op: LSTM | GRU | RNN, features: int) -> tuple[Phase, ...]:
    """The passes over the units that one frame takes."""
    match op:
        case LSTM():
            return lstm_phases(op, features)
        case GRU():
            return gru_phases(op, features)
        case RNN():
            return rnn_phases(op, features)
