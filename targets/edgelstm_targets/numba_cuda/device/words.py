"""Words of weights and of vectors in registers, and what the dot product of them is.

For each `WeightForm`: how a lane reads its share of a vector, and how a word of weights is
multiplied with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    add,
    band,
    bxor,
    dot2_high,
    dot2_low,
    dot4,
    float_of,
    halves,
    inline,
    load_global_word,
    load_global_word2,
    load_global_word4,
    load_shared4,
    load_shared_word,
    load_shared_word2,
    load_shared_word4,
    permute,
    shift_right,
    store_shared_word,
    store_shared_word2,
    store_shared_word4,
)
from edgelstm_targets.numba_cuda.places import SectionPlace
from edgelstm_targets.numba_cuda.precision import WeightForm

_SIGNS = 0x80808080
_MAGIC = 0x4B000000
"""2^23 in float32: with a byte as its lowest bits it is 2^23 + that byte."""

_MAGIC_ZERO = float((1 << 23) + 128)
_MAGIC_EIGHT = float((1 << 23) + 8)


@dataclass(frozen=True, slots=True)
class Dot:
    """How a section multiplies.

    Args:
        kind: type of an element of the vector in registers, F32 or U32.
        sum: type of a sum.
        count: elements of the vector for a quad.
        read: (x, vector, q) reads them; `vector` is the address of this lane's first chunk.
        step: (total, word, x, j) -> total, with word j of the quad.
    """

    kind: Any
    sum: Any
    count: int
    read: Any
    step: Any


def make_dot(section: SectionPlace, lanes: int) -> Dot:
    """The multiplication of a section."""
    form, words = section.form, section.words
    chunk_bytes = form.chunk(words) * form.vector_bytes
    chunks = words * form.inputs // form.chunk(words)
    row, each = lanes * chunk_bytes, min(chunk_bytes, 16) // 4
    loads = chunk_bytes // (4 * each)
    fetch = _fetch_floats if not form.is_whole else FETCH_SHARED[each]

    @inline
    def read(x, vector, q):
        for c in range(chunks):
            for k in range(loads):
                at = add(vector, U32((q * chunks + c) * row + k * 16))
                fetch(x, (c * loads + k) * each, at)

    kind = U32 if form.is_whole else F32
    return Dot(kind, kind, chunks * loads * each, read, _STEPS[form])


@inline
def _float_step(total, word, x, j):
    return total + float_of(word) * x[j]


@inline
def _half_step(total, word, x, j):
    low, high = halves(word)
    total = total + low * x[2 * j]
    return total + high * x[2 * j + 1]


@inline
def _byte_step(total, word, x, j):
    # A signed byte plus 128 is its bits with the sign turned.
    bits = bxor(word, U32(_SIGNS))
    for k in range(4):
        weight = float_of(permute(bits, U32(_MAGIC), U32(0x7540 + k))) - F32(_MAGIC_ZERO)
        total = total + weight * x[4 * j + k]
    return total


@inline
def _nibble_step(total, word, x, j):
    # An int4 plus 8 is its nibble.
    for k in range(8):
        nibble = band(shift_right(word, U32(4 * k)), U32(15))
        weight = float_of(add(nibble, U32(_MAGIC))) - F32(_MAGIC_EIGHT)
        total = total + weight * x[8 * j + k]
    return total


@inline
def _bytes_step(total, word, x, j):
    return dot4(word, x[j], total)


@inline
def _pairs_step(total, word, x, j):
    total = dot2_low(x[2 * j], word, total)
    return dot2_high(x[2 * j + 1], word, total)


_STEPS = {
    WeightForm.F32: _float_step,
    WeightForm.F16: _half_step,
    WeightForm.I8: _byte_step,
    WeightForm.I4: _nibble_step,
    WeightForm.BYTES: _bytes_step,
    WeightForm.PAIRS: _pairs_step,
}


@inline
def _fetch_floats(into, first, at):
    a, b, c, d = load_shared4(at)
    into[first] = a
    into[first + 1] = b
    into[first + 2] = c
    into[first + 3] = d


def _make_fetch(count: int, load: Any) -> Any:
    """fetch(into, first, address): that many words."""
    if count == 1:

        @inline
        def fetch(into, first, at):
            into[first] = load(at)

        return fetch
    if count == 2:

        @inline
        def fetch2(into, first, at):
            a, b = load(at)
            into[first] = a
            into[first + 1] = b

        return fetch2

    @inline
    def fetch4(into, first, at):
        a, b, c, d = load(at)
        into[first] = a
        into[first + 1] = b
        into[first + 2] = c
        into[first + 3] = d

    return fetch4


def _make_copy(load: Any, store: Any, count: int) -> Any:
    """copy(source, target): words from the image to shared memory."""
    if count == 1:

        @inline
        def copy(source, target):
            store(target, load(source))

        return copy
    if count == 2:

        @inline
        def copy2(source, target):
            a, b = load(source)
            store(target, a, b)

        return copy2

    @inline
    def copy4(source, target):
        a, b, c, d = load(source)
        store(target, a, b, c, d)

    return copy4


_GLOBAL = {1: load_global_word, 2: load_global_word2, 4: load_global_word4}
_SHARED = {1: load_shared_word, 2: load_shared_word2, 4: load_shared_word4}
_STORE = {1: store_shared_word, 2: store_shared_word2, 4: store_shared_word4}

FETCH_SHARED = {count: _make_fetch(count, load) for count, load in _SHARED.items()}
"""fetch(into, first, address), by the number of words."""

FETCH_GLOBAL = {count: _make_fetch(count, load) for count, load in _GLOBAL.items()}
"""The same from the image."""

COPY = {count: _make_copy(load, _STORE[count], count) for count, load in _GLOBAL.items()}
"""copy(source, target) from the image to shared memory, by the number of words."""
