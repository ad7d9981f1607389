"""What a recurrent cell does with the sums of its gates: one file per cell."""

from __future__ import annotations

from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_targets.tvm_cpu.cells import gru, lstm, rnn
from edgelstm_targets.tvm_cpu.cells.block import Epilogue

EPILOGUES: dict[type, Epilogue] = {LSTM: lstm.finish, GRU: gru.finish, RNN: rnn.finish}
"""The epilogue of each cell."""

__all__ = ["EPILOGUES", "Epilogue"]
