"""The device code of each cell of the table `HAND_PLACED`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_compiler.ir.ops.recurrent import Recurrent
from edgelstm_targets.numba_cuda.device.cells import (
    make_gru_cell,
    make_gru_phases,
    make_lstm_cell,
    make_rnn_cell,
)
from edgelstm_targets.numba_cuda.device.intrinsics import inline
from edgelstm_targets.numba_cuda.device.mma_cells import (
    functions_of,
    make_gru_before,
    make_gru_update,
    make_lstm_update,
    make_rnn_update,
)
from edgelstm_targets.numba_cuda.device.mma_integer_cells import (
    make_integer_gru_phases,
    make_integer_gru_update,
    make_integer_lstm_update,
)
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.mma_places import GroupRole
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole
from edgelstm_targets.numba_cuda.precision import Integer


def _no_integers(op: IntegerRecurrent, place: GroupRole) -> Any:
    raise NotImplementedError("builders refuse it: HandPlaced.has_integers")


def _no_phases(*arguments: Any) -> Any:
    raise NotImplementedError("the cell has one phase")


@dataclass(frozen=True, slots=True)
class DeviceCell:
    """What makes the code of a cell.

    Args:
        single: one stream, one phase: (placement, place, role, team) -> (cell, collect).
        group: a group of streams, one phase: (op, peepholes, functions, where) -> update.
        integer_group: the same in int8-full: (op, place) -> update.
        single_phases: two phases, one stream: (place) -> (gates, reset, update).
        group_phases: two phases, a group of streams: (place, role) -> (gates, reset, update).
    """

    single: Callable[..., tuple[Any, Any]]
    group: Callable[..., Any]
    integer_group: Callable[[IntegerRecurrent, GroupRole], Any] = _no_integers
    single_phases: Callable[..., tuple[Any, Any, Any]] = _no_phases
    group_phases: Callable[..., tuple[Any, Any, Any]] = _no_phases


def _gru_group_phases(place: GroupRole, role: RecurrentRole) -> tuple[Any, Any, Any]:
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerRecurrent)
        return make_integer_gru_phases(role.precision.op, place)
    op = role.kernel.op
    assert isinstance(op, GRU)
    gates, find_reset, update = make_gru_before(op, functions_of(role.precision), role.origin)
    show = make_show(role)

    @inline
    def reset(r, h):
        return show(find_reset(r, h))

    return gates, reset, update


DEVICE_CELLS: Mapping[type[Recurrent], DeviceCell] = {
    LSTM: DeviceCell(make_lstm_cell, make_lstm_update, make_integer_lstm_update),
    GRU: DeviceCell(
        make_gru_cell,
        make_gru_update,
        make_integer_gru_update,
        make_gru_phases,
        _gru_group_phases,
    ),
    RNN: DeviceCell(make_rnn_cell, make_rnn_update),
}
"""By operator, those of `HAND_PLACED`."""
