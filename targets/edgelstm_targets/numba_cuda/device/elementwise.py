"""The role of a chain of element-wise operations, and of fetching the model's input."""

from __future__ import annotations

from typing import Any

from edgelstm_targets.numba_cuda.device.chain import make_chain
from edgelstm_targets.numba_cuda.device.elements import (
    AS_FLOAT,
    FROM_FLOAT,
    LOAD_GLOBAL,
    LOAD_SHARED,
    STORE_SHARED,
    make_block_element,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    inline,
    load_shared,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.pipeline import (
    ElementwiseRole,
    Vector,
)
from edgelstm_targets.numba_cuda.places import Placement, RolePlace

_FETCHED_AHEAD = 8
"""Elements of the next frame that a thread holds; larger frames are fetched when they are due."""


def make_elementwise(placement: Placement, place: RolePlace) -> RoleCode:
    """The code of an element-wise role."""
    role = place.role
    assert isinstance(role, ElementwiseRole)
    extent, threads = role.target.extent, place.threads
    rounds = -(-extent // threads)
    apply = make_chain(role, placement.constants, _make_vector(placement))
    dtype = role.target.dtype
    at, keep = make_element(placement.rings[role.target]), STORE_SHARED[dtype]
    write, as_element = make_output(role.outputs, dtype), FROM_FLOAT[dtype]
    as_float = AS_FLOAT[role.source_dtype]

    @inline
    def store(base, weights, y, rank, frame, element, value):
        made = as_element(apply(value, element, base, weights, frame, U32(0)))
        keep(at(base, frame, element), made)
        write(y, element, made, U32(rank == U32(0)))

    @inline
    def prepare_nothing(w, t, rank, base, weights, state, x):
        pass

    @inline
    def finish(t, rank, base, state, frames):
        pass

    if isinstance(role.source, Vector):
        source = make_element(placement.rings[role.source])
        fetch_element = LOAD_SHARED[role.source_dtype]

        @inline
        def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = as_float(fetch_element(source(base, frame, element)))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, step, finish)
    outside, read = (
        make_block_element(role.source, role.source_dtype),
        LOAD_GLOBAL[role.source_dtype],
    )
    if rounds > _FETCHED_AHEAD:

        @inline
        def fetch_step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
            here = add64(x, U64(frame) * x_step)
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    value = as_float(read(outside(here, element)))
                    store(base, weights, y, rank, frame, element, value)

        return RoleCode(1, prepare_nothing, fetch_step, finish)

    @inline
    def fetch(w, t, x):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                w[j] = as_float(read(outside(x, element)))

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        fetch(w, t, x)

    @inline
    def ahead_step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                store(base, weights, y, rank, frame, element, w[j])
        after = add(frame, U32(1))
        if after < frames:
            fetch(w, t, add64(x, U64(after) * x_step))

    return RoleCode(rounds, prepare, ahead_step, finish)


def _make_vector(placement: Placement) -> Any:
    """Where an element of another vector stands, for `make_chain`."""

    def make(vector: Vector) -> Any:
        at = make_element(placement.rings[vector])

        @inline
        def read(element, base, weights, frame, stream):
            return load_shared(at(base, frame, element))

        return read

    return make
