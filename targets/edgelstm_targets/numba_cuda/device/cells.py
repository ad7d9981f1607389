"""The cells of recurrent layers on their vectors, with the states that they keep.

Each gives, for a layer with one phase: cell(z, lane, unit, base, weights, y, mail, tag, frame) ->
h, where `z` is the lane's sum (a number, or a word in scheme int8-full), and collect(t, base, mail,
tag, frame), as of `Team.hand_over`.
"""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.activations import make_clip, make_function
from edgelstm_targets.numba_cuda.device.elements import LOAD_SHARED, STORE_SHARED_IF, make_element
from edgelstm_targets.numba_cuda.device.gru import make_gru_after, make_gru_before
from edgelstm_targets.numba_cuda.device.integer_gru import (
    make_integer_gru_after,
    make_integer_gru_before,
)
from edgelstm_targets.numba_cuda.device.integer_lstm import make_integer_lstm
from edgelstm_targets.numba_cuda.device.intrinsics import U32, inline
from edgelstm_targets.numba_cuda.device.lstm import make_lstm
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.team import Team
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole, Vector
from edgelstm_targets.numba_cuda.places import Placement, RolePlace
from edgelstm_targets.numba_cuda.precision import Integer


def make_rnn_cell(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> tuple[Any, Any]:
    """One function of the sum."""
    op = role.kernel.op
    assert isinstance(op, RNN)
    function, clip = make_function(op.activations[0], role.origin), make_clip(op.clip)

    @inline
    def rnn(z, lane, unit, base, weights, y, mail, tag, frame):
        return function(clip(z))

    return rnn, _collect_nothing


@inline
def _collect_nothing(t, base, mail, tag, frame):
    pass


def make_gru_phases(place: RolePlace) -> tuple[Any, Any, Any]:
    """A GRU that resets before its product.

    Returns:
        gates(sums, lane, base) -> (z, r), reset(r, h), update(sums, z, h, base) -> h.
    """
    role = place.role
    assert isinstance(role, RecurrentRole)
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerRecurrent)
        return make_integer_gru_before(role.precision.op, place)
    op = role.kernel.op
    assert isinstance(op, GRU)
    find_gates, find_update = make_gru_before(op, role.origin)
    show = make_show(role)

    @inline
    def gates(sums, lane, base):
        return find_gates(sums, lane)

    @inline
    def reset(r, h):
        return show(r * h)

    @inline
    def update(sums, z, h, base):
        return find_update(sums, z, h)

    return gates, reset, update


def make_lstm_cell(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> tuple[Any, Any]:
    """It keeps c itself."""
    update = _lstm_update(place, role)
    assert role.cell is not None
    ring, hidden = placement.rings[role.cell], role.kernel.op.hidden
    at_cell, load = make_element(ring), LOAD_SHARED[ring.dtype]
    keep, collect = _make_cell_memory(placement, place, role.cell, team)
    write = make_output(role.cell_outputs, role.cell.dtype)

    @inline
    def lstm(z, lane, unit, base, weights, y, mail, tag, frame):
        known = min(unit, U32(hidden - 1))
        c = load(at_cell(base, frame - U32(1), known))
        h, after = update(z, c, lane, unit, U32(hidden), base, weights)
        keep(lane, base, mail, tag, frame, unit, after)
        write(y, unit, after, U32((lane == U32(1)) & (unit < U32(hidden))))
        return h

    return lstm, collect


def _make_cell_memory(
    placement: Placement, place: RolePlace, cell: Vector, team: Team
) -> tuple[Any, Any]:
    """As `Team.hand_over`: a unit's c stays in its block, unless another role reads it."""
    if any(cell in each.role.sources() for each in placement.roles):
        return team.hand_over(placement.rings[cell], cell.extent, place.threads)
    ring, extent = placement.rings[cell], cell.extent
    at_cell, store = make_element(ring), STORE_SHARED_IF[ring.dtype]

    @inline
    def keep(lane, base, mail, tag, frame, unit, value):
        mine = U32((lane == U32(1)) & (unit < U32(extent)))
        store(at_cell(base, frame, unit), value, mine)

    return keep, _collect_nothing


def _lstm_update(place: RolePlace, role: RecurrentRole) -> Any:
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerRecurrent)
        return make_integer_lstm(role.precision.op, place)
    op = role.kernel.op
    assert isinstance(op, LSTM)
    find = make_lstm(op, place.peepholes, role.origin)

    @inline
    def update(z, c, lane, unit, units, base, weights):
        return find(z, c, lane, unit, units, weights)

    return update


def make_gru_cell(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> tuple[Any, Any]:
    """It mixes the h of the frame before with the candidate."""
    ring = placement.rings[role.target if role.memory is None else role.memory]
    at_h, load, hidden = make_element(ring), LOAD_SHARED[ring.dtype], role.kernel.op.hidden
    update = _gru_update(place, role)

    @inline
    def gru(z, lane, unit, base, weights, y, mail, tag, frame):
        h = load(at_h(base, frame - U32(1), min(unit, U32(hidden - 1))))
        return update(z, h, lane, base)

    return gru, _collect_nothing


def _gru_update(place: RolePlace, role: RecurrentRole) -> Any:
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerRecurrent)
        return make_integer_gru_after(role.precision.op, place)
    op = role.kernel.op
    assert isinstance(op, GRU)
    find = make_gru_after(op, role.origin)

    @inline
    def update(z, h, lane, base):
        return find(z, h, lane)

    return update
