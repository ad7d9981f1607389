"""The role of a recurrent layer: product, sum over lanes, cell, hand-over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_targets.numba_cuda.device.activations import make_clip, make_function
from edgelstm_targets.numba_cuda.device.gru import make_gru_after, make_gru_before
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    div,
    inline,
    load_global,
    load_shared,
    mul,
    store_global,
    store_shared,
    store_shared_if,
)
from edgelstm_targets.numba_cuda.device.lstm import make_lstm
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.product import (
    make_product,
    make_reduction,
    make_slot,
)
from edgelstm_targets.numba_cuda.device.team import Team
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole, Vector
from edgelstm_targets.numba_cuda.placement import PhasePlace, Placement, RolePlace


@dataclass(frozen=True, slots=True)
class RoleCode:
    """The parts of a role; every one of them a device function.

    Args:
        words: registers that live from prepare to the end, as an array.
        prepare: (w, t, rank, base, weights, state, x), before the first frame.
        step: (w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step), one frame; x is
            the first frame's input, y this frame's output.
        finish: (t, rank, base, state, frames), after the last frame.
    """

    words: int
    prepare: Any
    step: Any
    finish: Any


def make_recurrent(placement: Placement, place: RolePlace, team: Team) -> RoleCode:
    """The code of a recurrent layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    if len(place.phases) == 2:
        if team.name == "cluster":
            raise CapabilityError(
                f"{role.origin}: a GRU with linear_before_reset=0 exchanges twice a frame, which "
                "clusters do not do here"
            )
        return _two_phases(placement, place, role, team)
    return _one_phase(placement, place, role, team)


def _one_phase(placement: Placement, place: RolePlace, role: RecurrentRole, team: Team) -> RoleCode:
    phase = place.phases[0]
    load, total = make_product(place, phase)
    reduce = make_reduction(phase.accumulators, place.lanes)
    read_bias, keep_bias, words = _make_bias(place, phase, place.words)
    ring = placement.rings[role.target]
    hidden, own = role.kernel.op.hidden, place.passes * place.tile
    lanes, tile, passes = place.lanes, place.tile, place.passes
    put, collect = team.hand_over(ring, hidden, place.threads)
    write = make_output(role.outputs)
    cell = _make_cell(placement, place, role, team)
    start, finish = _make_states(placement, place, role)

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load(w, t, rank, base, weights)
        keep_bias(w, t, rank, weights)
        start(t, base, state)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            acc = cuda.local.array(4, F32)
            for a in range(4):
                acc[a] = F32(0)
            total(acc, w, t, rank, turn, base, weights, frame)
            z = reduce(acc, lane) + read_bias(w, lane, unit, weights)
            h = cell(z, lane, unit, base, weights, y, mail, tag, frame)
            put(lane, base, mail, tag, frame, unit, h)
            write(y, unit, h, U32((lane == U32(2)) & (unit < U32(hidden))))
        collect(t, base, mail, tag, frame)

    return RoleCode(words, prepare, step, finish)


def _make_cell(placement: Placement, place: RolePlace, role: RecurrentRole, team: Team) -> Any:
    """cell(z, lane, unit, base, weights, y, mail, tag, frame) -> h; keeps c itself."""
    op, origin = role.kernel.op, role.origin
    read_h = make_slot(placement.rings[role.target])
    hidden = op.hidden
    match op:
        case LSTM():
            update = make_lstm(op, place.peepholes, origin)
            assert role.cell is not None
            at_cell = make_slot(placement.rings[role.cell])
            write = make_output(role.cell_outputs)

            @inline
            def lstm(z, lane, unit, base, weights, y, mail, tag, frame):
                place_of_unit = mul(min(unit, U32(hidden - 1)), U32(4))
                c = load_shared(add(at_cell(base, frame - U32(1)), place_of_unit))
                h, after = update(z, c, lane, unit, U32(hidden), weights)
                mine = U32((lane == U32(1)) & (unit < U32(hidden)))
                store_shared_if(add(at_cell(base, frame), place_of_unit), after, mine)
                write(y, unit, after, mine)
                return h

            return lstm
        case GRU():
            step = make_gru_after(op, origin)

            @inline
            def gru(z, lane, unit, base, weights, y, mail, tag, frame):
                place_of_unit = mul(min(unit, U32(hidden - 1)), U32(4))
                h = load_shared(add(read_h(base, frame - U32(1)), place_of_unit))
                return step(z, h, lane)

            return gru
        case RNN():
            function, clip = make_function(op.activations[0], origin), make_clip(op.clip)

            @inline
            def rnn(z, lane, unit, base, weights, y, mail, tag, frame):
                return function(clip(z))

            return rnn


def _two_phases(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> RoleCode:
    """GRU with linear_before_reset=0: r*h of all units, and then the candidate."""
    op = role.kernel.op
    assert isinstance(op, GRU)
    assert place.kept is not None
    assert place.reset is not None
    first, second = place.phases
    load_first, total_first = make_product(place, first)
    load_second, total_second = make_product(place, second)
    reduce_first = make_reduction(first.accumulators, place.lanes)
    reduce_second = make_reduction(second.accumulators, place.lanes)
    bias_first, keep_first, words = _make_bias(place, first, place.words)
    bias_second, keep_second, words = _make_bias(place, second, words)
    gates, update = make_gru_before(op, role.origin)
    ring = placement.rings[role.target]
    hidden, own = op.hidden, place.passes * place.tile
    lanes, tile, passes, threads = place.lanes, place.tile, place.passes, place.threads
    put_reset, collect_reset = team.hand_over(place.reset, hidden, threads)
    put, collect = team.hand_over(ring, hidden, threads)
    at_h, at_kept = make_slot(ring), make_slot(place.kept)
    write = make_output(role.outputs)
    start, finish = _make_states(placement, place, role)
    own_barrier = place.number + 1

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load_first(w, t, rank, base, weights)
        load_second(w, t, rank, base, weights)
        keep_first(w, t, rank, weights)
        keep_second(w, t, rank, weights)
        start(t, base, state)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            place_of_unit = mul(min(unit, U32(hidden - 1)), U32(4))
            acc = cuda.local.array(4, F32)
            for a in range(4):
                acc[a] = F32(0)
            total_first(acc, w, t, rank, turn, base, weights, frame)
            sums = reduce_first(acc, lane) + bias_first(w, lane, unit, weights)
            z, r = gates(sums, lane)
            h = load_shared(add(at_h(base, frame - U32(1)), place_of_unit))
            put_reset(lane, base, mail, tag, frame, unit, r * h)
            mine = U32((lane == U32(1)) & (unit < U32(hidden)))
            store_shared_if(add(at_kept(base, frame), place_of_unit), z, mine)
        collect_reset(t, base, mail, tag, frame)
        barrier(U32(own_barrier), U32(threads))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            place_of_unit = mul(min(unit, U32(hidden - 1)), U32(4))
            acc = cuda.local.array(4, F32)
            for a in range(4):
                acc[a] = F32(0)
            total_second(acc, w, t, rank, turn, base, weights, frame)
            sums = reduce_second(acc, lane) + bias_second(w, lane, unit, weights)
            h = load_shared(add(at_h(base, frame - U32(1)), place_of_unit))
            z = load_shared(add(at_kept(base, frame), place_of_unit))
            after = update(sums, z, h)
            put(lane, base, mail, tag, frame, unit, after)
            write(y, unit, after, U32((lane == U32(2)) & (unit < U32(hidden))))
        collect(t, base, mail, tag, frame)

    return RoleCode(words, prepare, step, finish)


def _make_bias(place: RolePlace, phase: PhasePlace, words: int) -> tuple[Any, Any, int]:
    """read(w, lane, unit, weights), keep(w, t, rank, weights), and the words used so far.

    A lane adds the bias of the accumulator that the reduction gives it. With one pass it stays in a
    register.
    """
    image, count, lanes, tile = phase.bias, phase.accumulators, place.lanes, place.tile
    four = count == 4
    two = count == 2

    @inline
    def fetch(lane, unit, weights):
        which = U32(0)
        if four:
            which = add(mul(band(lane, U32(1)), U32(2)), band(div(lane, U32(2)), U32(1)))
        if two:
            which = band(lane, U32(1))
        element = add(mul(unit, U32(count)), which)
        return load_global(add64(weights, U64(image) + U64(element) * U64(4)))

    if place.passes == 1:

        @inline
        def keep(w, t, rank, weights):
            unit = add(mul(rank, U32(tile)), div(t, U32(lanes)))
            w[words] = fetch(band(t, U32(lanes - 1)), unit, weights)

        @inline
        def read(w, lane, unit, weights):
            return w[words]

        return read, keep, words + 1

    @inline
    def keep_nothing(w, t, rank, weights):
        pass

    @inline
    def read_again(w, lane, unit, weights):
        return fetch(lane, unit, weights)

    return read_again, keep_nothing, words


def _make_states(placement: Placement, place: RolePlace, role: RecurrentRole) -> tuple[Any, Any]:
    """start(t, base, state) and finish(t, rank, base, state, frames) for all states of a layer."""
    start, finish = _make_state(placement, place, role.target)
    if role.cell is None:
        return start, finish
    start_cell, finish_cell = _make_state(placement, place, role.cell)

    @inline
    def start_both(t, base, state):
        start(t, base, state)
        start_cell(t, base, state)

    @inline
    def finish_both(t, rank, base, state, frames):
        finish(t, rank, base, state, frames)
        finish_cell(t, rank, base, state, frames)

    return start_both, finish_both


def _make_state(placement: Placement, place: RolePlace, vector: Vector) -> tuple[Any, Any]:
    """Every block reads the whole state and writes the units that are its own."""
    slot = make_slot(placement.rings[vector])
    offset, extent, threads = vector.state_offset or 0, vector.extent, place.threads
    own = place.passes * place.tile
    rounds, own_rounds = -(-extent // threads), -(-own // threads)

    @inline
    def start(t, base, state):
        here = slot(base, U32(0xFFFFFFFF))
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                value = load_global(add64(state, U64(offset) + U64(element) * U64(4)))
                store_shared(add(here, mul(element, U32(4))), value)

    @inline
    def finish(t, rank, base, state, frames):
        here = slot(base, frames - U32(1))
        for j in range(own_rounds):
            mine = add(t, U32(j * threads))
            element = add(mul(rank, U32(own)), mine)
            if (mine < U32(own)) & (element < U32(extent)):
                value = load_shared(add(here, mul(element, U32(4))))
                store_global(add64(state, U64(offset) + U64(element) * U64(4)), value)

    return start, finish
