"""The roles that mix the elements of a vector: softmax, its logarithm, layer normalization.

One warp each; every lane walks over its share of the elements.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.activations import exponential
from edgelstm_targets.numba_cuda.device.elements import make_slot
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    inline,
    load_global,
    load_shared,
    mul,
    reciprocal_approx,
    shuffle_xor,
    store_shared_if,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.pipeline import LayerNormRole, SoftmaxRole
from edgelstm_targets.numba_cuda.places import Placement, RolePlace

_WARP = 32


@inline
def _warp_sum(value):
    for k in range(5):
        value = value + shuffle_xor(value, U32(16 >> k))
    return value


@inline
def _warp_maximum(value):
    for k in range(5):
        value = max(value, shuffle_xor(value, U32(16 >> k)))
    return value


def _make_access(extent: int, outputs: tuple[int, ...]) -> tuple[Any, Any]:
    """Returns read(here, element) and store(there, y, rank, element, value).

    Lanes beyond the end read the last element and store nothing, so that the warp never parts.
    """
    write = make_output(outputs)

    @inline
    def read(here, element):
        return load_shared(add(here, mul(min(element, U32(extent - 1)), U32(4))))

    @inline
    def store(there, y, rank, element, value):
        mine = element < U32(extent)
        store_shared_if(add(there, mul(element, U32(4))), value, U32(mine))
        write(y, element, value, U32(mine & (rank == U32(0))))

    return read, store


@inline
def _prepare(w, t, rank, base, weights, state, x):
    pass


@inline
def _finish(t, rank, base, state, frames):
    pass


def make_softmax(placement: Placement, place: RolePlace) -> RoleCode:
    """exp(x - max) / sum, or x - max - log(sum)."""
    role = place.role
    assert isinstance(role, SoftmaxRole)
    extent, is_log = role.target.extent, role.is_log
    rounds = -(-extent // _WARP)
    source, target = make_slot(placement.rings[role.x]), make_slot(placement.rings[role.target])
    read, store = _make_access(extent, role.outputs)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        here, there = source(base, frame), target(base, frame)
        top = F32(-math.inf)
        for j in range(rounds):
            top = max(top, read(here, add(t, U32(j * _WARP))))
        top = _warp_maximum(top)
        total = F32(0)
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            power = exponential(read(here, element) - top)
            total += cuda.selp(element < U32(extent), power, F32(0))
        total = _warp_sum(total)
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            value = read(here, element) - top
            if is_log:
                value = value - math.log(total)
            else:
                value = exponential(value) * reciprocal_approx(total)
            store(there, y, rank, element, value)

    return RoleCode(1, _prepare, step, _finish)


def make_layer_norm(placement: Placement, place: RolePlace) -> RoleCode:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias."""
    role = place.role
    assert isinstance(role, LayerNormRole)
    extent, epsilon = role.target.extent, role.epsilon
    rounds = -(-extent // _WARP)
    source, target = make_slot(placement.rings[role.x]), make_slot(placement.rings[role.target])
    read, store = _make_access(extent, role.outputs)
    scale = placement.constants[role.scale.offset_bytes]
    has_bias = role.bias is not None
    bias = placement.constants[role.bias.offset_bytes] if role.bias is not None else 0

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        here, there = source(base, frame), target(base, frame)
        total = F32(0)
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            total += cuda.selp(element < U32(extent), read(here, element), F32(0))
        mean = _warp_sum(total) * F32(1 / extent)
        squares = F32(0)
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            centred = cuda.selp(element < U32(extent), read(here, element) - mean, F32(0))
            squares += centred * centred
        variance = _warp_sum(squares) * F32(1 / extent)
        factor = F32(1) / math.sqrt(variance + F32(epsilon))
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            at = U64(min(element, U32(extent - 1))) * U64(4)
            value = (read(here, element) - mean) * factor
            value = value * load_global(add64(weights, U64(scale) + at))
            if has_bias:
                value = value + load_global(add64(weights, U64(bias) + at))
            store(there, y, rank, element, value)

    return RoleCode(1, _prepare, step, _finish)
