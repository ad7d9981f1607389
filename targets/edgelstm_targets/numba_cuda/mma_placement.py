"""Pipeline + chip -> GroupPlacement: a block owns a group of streams, on tensor cores.

Streams are the rows of every product, 16 at a time; a warp has the gates of 8 units (a tile) for
all streams of the group. Weights are float16 fragments, in registers first, then in shared memory,
and the rest is read from L2 for every frame. Layers have warps of their own; everything else
(input, heads) is then done by all warps, one role after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import Source
from edgelstm_compiler.ir.ops import GRU, LSTM
from edgelstm_targets.numba_cuda.chips import (
    BLOCK_THREADS,
    WARP,
    Chip,
    register_limit,
)
from edgelstm_targets.numba_cuda.mma_image import (
    PAIR_BYTES,
    TAIL,
    TAIL_BYTES,
    TILE_UNITS,
    FragmentImage,
    TiledPhase,
    count_pairs,
)
from edgelstm_targets.numba_cuda.mma_model import frame_cycles, shared_blocks
from edgelstm_targets.numba_cuda.mma_places import (
    FLAG_BYTES,
    ROWS,
    FragmentPlace,
    GroupPhase,
    GroupPlacement,
    GroupRole,
    Rows,
)
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    ElementwiseRole,
    LayerNormRole,
    Pipeline,
    RecurrentRole,
    Role,
    SoftmaxRole,
    Vector,
)
from edgelstm_targets.numba_cuda.precision import FULL

GROUPS = (64, 32, 16)
MOST_AHEAD = 24
"""Elements of the next frame that a thread holds; larger frames are fetched when they are due."""

LAYER_WARPS = (1, 2, 4, 8, 12, 16, 20, 24)
_BLOCK_SHARED = 1024
_NEAR = 1.05
_ROLES = (RecurrentRole, DenseRole, ElementwiseRole, SoftmaxRole, LayerNormRole)
# Registers of a thread beside weights, sums and cell states: addresses, a piece of the vector.
_PLAIN = 38
_PAIR_WORDS, _TAIL_WORDS = 4, 2


def place_groups(
    pipeline: Pipeline, chip: Chip, spare: int = 0, groups: Sequence[int] = GROUPS
) -> GroupPlacement:
    """The placement with the cheapest frame of a stream.

    Args:
        pipeline: what is to be done.
        chip: for which chip.
        spare: registers of a thread left unused, more where the compiler spills.
        groups: streams of a block that are tried.

    Raises:
        CapabilityError: a role that tensor cores do not do here, or a layer too large for them.
    """
    for role in pipeline.roles:
        if not _is_float(role):
            raise CapabilityError(
                f"{role.origin}: math=fp16 multiplies float32 layers, and this one is quantized; "
                "leave out --quantize or the option math"
            )
    found = list(_placements(pipeline, chip, spare, groups))
    if not found:
        largest = max(role.target.extent for role in pipeline.roles)
        raise CapabilityError(
            f"math=fp16: a group of {min(groups)} streams with vectors of {largest} does not fit "
            f"into a multiprocessor of {chip.name}; use math=fp32"
        )
    best = min(each.cost / each.group for each in found)
    # A smaller group fills the chip with fewer streams; that is worth a little.
    near = [each for each in found if each.cost / each.group <= _NEAR * best]
    return min(near, key=lambda each: (each.group, each.cost))


def _is_float(role: Role) -> bool:
    """Whether it is float32 throughout."""
    if isinstance(role, (RecurrentRole, DenseRole)) and role.precision != FULL:
        return False
    return isinstance(role, _ROLES) and role.target.dtype is DType.F32


def _placements(
    pipeline: Pipeline, chip: Chip, spare: int, groups: Sequence[int]
) -> Iterator[GroupPlacement]:
    layers = [role for role in pipeline.roles if isinstance(role, RecurrentRole)]
    for group in groups:
        for most in LAYER_WARPS:
            warps = [_layer_warps(role, most) for role in layers]
            if sum(warps) * WARP > BLOCK_THREADS:
                continue
            for chunk in sorted({1, group // ROWS}):
                placing = _Placing(pipeline, chip, group, warps or [most], chunk, spare)
                placement = placing.place()
                if placement is not None:
                    yield placement


def _words(role: RecurrentRole) -> int:
    """Registers of a thread that would hold all weights of a tile."""
    covers = [
        (len(section.gates), *count_pairs(section.extent))
        for phase in role.kernel.phases
        for section in phase.sections
    ]
    return sum(gates * (_PAIR_WORDS * p + _TAIL_WORDS * t) for gates, p, t in covers)


def _phases(role: Role) -> int:
    return len(role.kernel.phases) if isinstance(role, RecurrentRole) else 0


def _layer_warps(role: RecurrentRole, most: int) -> int:
    tiles = -(-role.kernel.op.hidden // TILE_UNITS)
    return -(-tiles // -(-tiles // most))


class _Placing:
    """Gives every vector and weight its place."""

    def __init__(
        self,
        pipeline: Pipeline,
        chip: Chip,
        group: int,
        warps: Sequence[int],
        chunk: int,
        spare: int,
    ) -> None:
        self.pipeline = pipeline
        self.chip = chip
        self.group = group
        layers = [role for role in pipeline.roles if isinstance(role, RecurrentRole)]
        self.warps: dict[Role, int] = dict(zip(layers, warps, strict=False))
        self.chunk = chunk
        self.threads = WARP * sum(warps)
        self.spare = spare
        self.limit = register_limit(self.threads) - spare - self._side_words()
        self.at = FLAG_BYTES
        self.room = 0
        self.image = FragmentImage()
        self.halves: dict[Vector, Rows] = {}
        self.floats: dict[Vector, Rows] = {}
        self.register_bytes = 0
        self.shared_weights = 0
        self.streamed = 0
        self.most_registers = 0

    @property
    def rows(self) -> int:
        """Products of 16 streams in a group."""
        return self.group // ROWS

    def place(self) -> GroupPlacement | None:
        """The placement, or None where vectors and states or the sums do not fit."""
        self._vectors()
        resets = {role: self._reset(role) for role in self.warps if _phases(role) == 2}
        cleared = self.at
        cells = {role: self._cells(role) for role in self.warps}
        biases = 4 * sum(
            phase.accumulators * self._tiles(role) * TILE_UNITS
            for role in self.pipeline.roles
            if isinstance(role, (RecurrentRole, DenseRole))
            for phase in role.kernel.phases
        )
        self.room = self.chip.shared_bytes - _BLOCK_SHARED - biases
        if self.at > self.room:
            return None
        layers: list[GroupRole] = []
        side: list[GroupRole] = []
        first = 0
        for role in self.pipeline.roles:
            if isinstance(role, RecurrentRole):
                number = len(layers)
                threads = self.warps[role] * WARP
                place = self._layer(role, number, first, threads, cells[role], resets.get(role))
                layers.append(place)
                first += threads
        word = max((place.words for place in layers), default=0)
        for role in self.pipeline.roles:
            if not isinstance(role, RecurrentRole):
                side.append(self._side(role, len(layers) + len(side), word))
                word += side[-1].words
            self.image.add_constants(role)
        if self.most_registers > self.limit + self._side_words():
            return None
        placement = GroupPlacement(
            self.chip,
            self.group,
            tuple(layers),
            tuple(side),
            self.halves,
            self.floats,
            self.threads,
            cleared,
            self.at,
            tuple(self.image.layouts),
            self.image.constants,
            self.register_bytes,
            self.shared_weights,
            self.streamed,
            self.most_registers,
        )
        # Where it had spilled before, registers count for more than neighbours.
        return dataclasses.replace(
            placement,
            cost=frame_cycles(placement),
            residents=1 if self.spare else shared_blocks(placement),
        )

    def _tiles(self, role: Role) -> int:
        if isinstance(role, RecurrentRole):
            tiles = -(-role.kernel.op.hidden // TILE_UNITS)
            return self.warps[role] * -(-tiles // self.warps[role])
        return -(-role.target.extent // TILE_UNITS)

    def _vectors(self) -> None:
        """Room for every vector, as float16, float32 or both, as its readers want it."""
        for vector, depth in self.pipeline.depths.items():
            readers = [role for role in self.pipeline.roles if vector in role.sources()]
            products = [r for r in readers if isinstance(r, (RecurrentRole, DenseRole))]
            makers = [r for r in self.pipeline.roles if vector in r.targets()]
            width = max(TILE_UNITS * self._tiles(r) for r in makers)
            own = any(isinstance(r, RecurrentRole) and r.target is vector for r in makers)
            if products or own:
                self.halves[vector] = self._half_rows(max(width, vector.extent), depth)
            if len(products) < len(readers):
                # Eight neighbouring rows begin in other banks.
                pitch = 8 * (-(-max(width, vector.extent) // 2) | 1)
                self.floats[vector] = self._add_rows(pitch, self.group, depth)

    def _half_rows(self, width: int, depth: int) -> Rows:
        # An odd number of products: 64 bytes of two rows then fill all banks.
        return self._add_rows(4 * TAIL * (-(-width // TAIL) | 1), self.group // 2, depth)

    def _add_rows(self, pitch: int, count: int, depth: int) -> Rows:
        rows = Rows(self.at, pitch, pitch * count, depth - 1)
        self.at += _align(rows.step * depth)
        return rows

    def _reset(self, role: Role) -> Rows:
        return self._half_rows(TILE_UNITS * self._tiles(role), 1)

    def _cells(self, role: Role) -> tuple[int, int]:
        """How many values a lane carries for each unit and stream, and where."""
        assert isinstance(role, RecurrentRole)
        slots = len(role.kernel.phases) if isinstance(role.kernel.op, (LSTM, GRU)) else 0
        place = self.at
        self.at += 4 * slots * self.group * TILE_UNITS * self._tiles(role)
        return slots, place

    def _layer(
        self,
        role: RecurrentRole,
        number: int,
        first: int,
        threads: int,
        cells: tuple[int, int],
        reset: Rows | None,
    ) -> GroupRole:
        tiles = self._tiles(role)
        passes = tiles * WARP // threads
        # Weights that do not stay are read into registers pair by pair, for several rows ahead.
        reading = 4 * _PAIR_WORDS + 20 * (self.chunk - 1)
        others, whole = _PLAIN + 16 * self.chunk, _words(role)
        budget = 0
        if passes == 1:
            room = self.limit - others
            budget = room if whole <= room else max(0, room - reading)
        sources = {
            Source.X: self.halves[role.x],
            Source.H: self.halves[role.target],
            Source.RESET_H: reset,
        }
        phases, words, offset, peepholes = [], 0, role.weights, -1
        for phase in role.kernel.phases:
            tiled = TiledPhase(
                phase, offset, role.kernel.op.hidden, tiles, role.kernel.has_peepholes
            )
            place, words = self._phase(tiled, sources, words, budget)
            phases.append(place)
            if tiled.has_peepholes:
                peepholes = self.image.add_peepholes(tiled)
            offset += tiled.size
        self.register_bytes += words * 4 * threads
        used = others + words + (reading if words < whole else 0) + self._side_words()
        self.most_registers = max(self.most_registers, used)
        return GroupRole(
            role,
            number,
            self.pipeline.lags[role],
            first,
            threads,
            tiles,
            passes,
            self.chunk,
            tuple(phases),
            0,
            words,
            *cells,
            peepholes,
            reset,
        )

    def _side_words(self) -> int:
        return sum(self._ahead(role) for role in self.pipeline.roles)

    def _ahead(self, role: Role) -> int:
        """Registers for the next frame of an input, or 0."""
        if not isinstance(role, ElementwiseRole) or not isinstance(role.source, int):
            return 0
        # Up to four elements are fetched at once, and none of them is another thread's.
        words = -(-self.group * role.target.extent // self.threads) + 3
        return words if words <= MOST_AHEAD else 0

    def _side(self, role: Role, number: int, word: int) -> GroupRole:
        threads, lag = self.threads, self.pipeline.lags[role]
        if isinstance(role, DenseRole):
            tiles = self._tiles(role)
            tiled = TiledPhase(role.kernel.phases[0], role.weights, role.kernel.units, tiles, False)
            phase, _ = self._phase(tiled, {Source.X: self.halves[role.x]}, 0, 0)
            passes = -(-tiles * self.rows * WARP // threads)
            return GroupRole(role, number, lag, 0, threads, tiles, passes, 1, (phase,))
        words = self._ahead(role)
        return GroupRole(role, number, lag, 0, threads, first_word=word, words=words)

    def _phase(
        self,
        tiled: TiledPhase,
        sources: Mapping[Source, Rows | None],
        words: int,
        budget: int,
    ) -> tuple[GroupPhase, int]:
        """Places weights, from word `words` on up to `budget` of them in registers."""
        phase, tiles = tiled.phase, tiled.tiles
        bias_image = self.image.add_bias(tiled)
        bias, bias_bytes = self.at, 4 * phase.accumulators * tiled.padded_units
        self.at += bias_bytes
        self.room += bias_bytes
        sections = []
        for index, section in enumerate(phase.sections):
            rows = sources[section.source]
            assert rows is not None
            gates = len(section.gates)
            pairs, tail = count_pairs(section.extent)
            image, image_tail = self.image.add_fragments(tiled, index)
            at_tail, tail_word, shared_tail = "", 0, 0
            if tail:
                at_tail = "image"
                if words + _TAIL_WORDS * gates <= budget:
                    at_tail, tail_word = "registers", words
                    words += _TAIL_WORDS * gates
                elif self.at + tiles * gates * TAIL_BYTES <= self.room:
                    at_tail, shared_tail = "shared", self.at
                    self.at += tiles * gates * TAIL_BYTES
                    self.shared_weights += tiles * gates * TAIL_BYTES
                else:
                    self.streamed += tiles * gates * TAIL_BYTES
            held = min(pairs, max(0, budget - words) // (_PAIR_WORDS * gates))
            size = tiles * gates * PAIR_BYTES
            stored = min(pairs - held, max(0, self.room - self.at) // size)
            sections.append(
                FragmentPlace(
                    rows,
                    int(section.source is Source.H),
                    gates,
                    int(section.accumulators == (0, 1, 3)),
                    pairs,
                    held,
                    stored,
                    at_tail,
                    image,
                    image_tail,
                    self.at,
                    shared_tail,
                    words,
                    tail_word,
                )
            )
            words += held * gates * _PAIR_WORDS
            self.at += stored * size
            self.shared_weights += stored * size
            self.streamed += (pairs - held - stored) * size
        return GroupPhase(phase.accumulators, tuple(sections), bias_image, bias, bias_bytes), words


def _align(size: int) -> int:
    return -(-size // 128) * 128
