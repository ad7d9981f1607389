"""Pipeline + chip -> GroupPlacement: a block owns a group of streams, on tensor cores.

Streams are the rows of every product, 16 at a time; a warp has the gates of 8 units (a tile) for
all streams of the group. Weights are fragments (`mma_image.py`), in registers first, then in shared
memory, and the rest is read from L2 for every frame. Layers have warps of their own; everything
else (input, heads) is then done by all warps, one role after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import Section, Source
from edgelstm_targets.numba_cuda.cells import HAND_PLACED, Carried
from edgelstm_targets.numba_cuda.chips import (
    BLOCK_SHARED,
    BLOCK_THREADS,
    WARP,
    Chip,
    register_limit,
)
from edgelstm_targets.numba_cuda.image import SharedWords
from edgelstm_targets.numba_cuda.mma_image import (
    PAIR_BYTES,
    TAIL_BYTES,
    TILE_UNITS,
    FragmentImage,
    Operand,
    TiledPhase,
    operand_of,
)
from edgelstm_targets.numba_cuda.mma_model import alone_cycles, frame_cycles, shared_blocks
from edgelstm_targets.numba_cuda.mma_places import (
    FLAG_BYTES,
    ROWS,
    FragmentPlace,
    GroupPhase,
    GroupPlacement,
    GroupRole,
    Rows,
)
from edgelstm_targets.numba_cuda.mma_vectors import VectorRows
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    ElementwiseRole,
    Pipeline,
    RecurrentRole,
    Role,
)
from edgelstm_targets.numba_cuda.precision import Part, weight_form

GROUPS = (64, 32, 16)
MOST_AHEAD = 24
"""Elements of the next frame that a thread holds; larger frames are fetched when they are due."""

LAYER_WARPS = (1, 2, 4, 8, 12, 16, 20, 24)
_NEAR = 1.05
_ABOUT = 1.1
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
        if None in _operands(role):
            raise CapabilityError(
                f"{role.origin}: its weights are stored in 4 or 8 bits and multiplied in floating "
                "point, for which tensor cores have no code here; leave out the option math, or "
                "quantize with fp16, int8 or int8-full"
            )
    found = list(_placements(pipeline, chip, spare, groups))
    if not found:
        largest = max(role.target.extent for role in pipeline.roles)
        raise CapabilityError(
            f"a group of {min(groups)} streams with vectors of {largest} does not fit into a "
            f"multiprocessor of {chip.name} for its tensor cores; use math=fp32 and another shape"
        )
    best = min(each.cost / each.group for each in found)
    # A smaller group fills the chip with fewer streams; that is worth a little.
    group = min(each.group for each in found if each.cost / each.group <= _NEAR * best)
    same = [each for each in found if each.group == group]
    least = min(each.cost for each in same)
    # Of those that cost about the same the quickest where a block is alone.
    near = [each for each in same if each.cost <= _ABOUT * least]
    return min(near, key=lambda each: (alone_cycles(each), each.cost))


def is_exact(pipeline: Pipeline) -> bool:
    """Whether all its products are of whole numbers: tensor cores then give the same as others."""
    operands = {operand for role in pipeline.roles for operand in _operands(role)}
    return operands == {Operand.BYTES}


def _operands(role: Role) -> set[Operand | None]:
    """Of what elements its products are; None where there is no code for them."""
    if not isinstance(role, (RecurrentRole, DenseRole)):
        return set()
    return {
        operand_of(weight_form(role.precision, section.source))
        for phase in role.kernel.phases
        for section in phase.sections
    }


def _placements(
    pipeline: Pipeline, chip: Chip, spare: int, groups: Sequence[int]
) -> Iterator[GroupPlacement]:
    layers = [role for role in pipeline.roles if isinstance(role, RecurrentRole)]
    spread = (tuple(_layer_warps(role, most) for role in layers) for most in LAYER_WARPS)
    # Without a layer the roles share warps of their own.
    counts = dict.fromkeys(spread) if layers else ((most,) for most in LAYER_WARPS)
    fitting = [warps for warps in counts if sum(warps) * WARP <= BLOCK_THREADS]
    for group in groups:
        for warps in fitting:
            for chunk in sorted({1, group // ROWS}):
                placement = _Placing(pipeline, chip, group, warps, chunk, spare).place()
                if placement is not None:
                    yield placement


def _words(role: RecurrentRole) -> int:
    """Registers of a thread that would hold all weights of a tile."""
    covers = [
        (len(section.gates), *_operand_of(role, section).count_pairs(section.extent))
        for phase in role.kernel.phases
        for section in phase.sections
    ]
    return sum(gates * (_PAIR_WORDS * p + _TAIL_WORDS * t) for gates, p, t in covers)


def _operand_of(role: RecurrentRole | DenseRole, section: Section) -> Operand:
    operand = operand_of(weight_form(role.precision, section.source))
    assert operand is not None  # place_groups refused it
    return operand


def _sum_words(role: RecurrentRole, chunk: int) -> int:
    """Registers of a thread for the sums of as many rows; those that are scaled stand apart."""
    if _operand_of(role, role.kernel.phases[0].sections[0]) is Operand.HALVES:
        return 16 * chunk
    most = max(phase.accumulators for phase in role.kernel.phases)
    return 4 * most * chunk * (2 if role.x.dtype is not DType.I16 else 3)


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
        self.warps: dict[RecurrentRole, int] = dict(zip(layers, warps, strict=False))
        self.chunk = chunk
        self.threads = WARP * sum(warps)
        self.spare = spare
        self.limit = register_limit(self.threads) - spare - self._side_words()
        self.rows = VectorRows(group, FLAG_BYTES)
        self.at = FLAG_BYTES
        self.room = 0
        self.image = FragmentImage()
        self.register_bytes = 0
        self.shared_weights = 0
        self.streamed = 0
        self.most_registers = 0

    def place(self) -> GroupPlacement | None:
        """The placement, or None where vectors and states or the sums do not fit."""
        self.rows.add_all(self.pipeline, self._tiles)
        resets = {role: self._reset(role) for role in self.warps if len(role.kernel.phases) == 2}
        self.at = cleared = self.rows.at
        cells = {role: self._cells(role) for role in self.warps}
        tables: dict[Role, SharedWords | None] = {}
        for role in self.pipeline.roles:
            tables[role], self.at = self.image.add_tables(role, self.at)
        self.room = self.chip.shared_bytes - BLOCK_SHARED - self._unit_bytes()
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
                layers.append(dataclasses.replace(place, tables=tables[role]))
                first += threads
        word = max((place.words for place in layers), default=0)
        for role in self.pipeline.roles:
            if not isinstance(role, RecurrentRole):
                place = self._side(role, len(layers) + len(side), word)
                side.append(dataclasses.replace(place, tables=tables[role]))
                word += place.words
            self.image.add_constants(role)
        self.most_registers = max(self.most_registers, _PLAIN + self._side_words())
        if self.most_registers > self.limit + self._side_words():
            return None
        placement = GroupPlacement(
            self.chip,
            self.group,
            tuple(layers),
            tuple(side),
            self.rows.operands,
            self.rows.elements,
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

    def _unit_bytes(self) -> int:
        """Shared memory for what stands there of every unit: biases and scales."""
        total = 0
        for role in self.pipeline.roles:
            if isinstance(role, (RecurrentRole, DenseRole)):
                for packed in role.packed():
                    scales = [each.scales for each in packed.sections if each.scales is not None]
                    rows = sum(part.rows for part in (packed.bias, *scales))
                    total += 4 * rows * self._tiles(role) * TILE_UNITS
        return total

    def _tiles(self, role: Role) -> int:
        if isinstance(role, RecurrentRole):
            tiles = -(-role.kernel.op.hidden // TILE_UNITS)
            return self.warps[role] * -(-tiles // self.warps[role])
        return -(-role.target.extent // TILE_UNITS)

    def _reset(self, role: RecurrentRole) -> Rows:
        return self.rows.add_operand(TILE_UNITS * self._tiles(role), role.seen.dtype, 1)

    def _cells(self, role: Role) -> tuple[int, int]:
        """How many values a lane carries for each unit and stream, and where."""
        assert isinstance(role, RecurrentRole)
        is_carried = HAND_PLACED[type(role.kernel.op)].carried is not Carried.NOTHING
        slots = len(role.kernel.phases) if is_carried else 0
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
        others, whole = _PLAIN + _sum_words(role, self.chunk), _words(role)
        budget = 0
        if passes == 1:
            room = self.limit - others
            budget = room if whole <= room else max(0, room - reading)
        sources = {
            Source.X: self.rows.operands[role.x],
            Source.H: self.rows.operands[role.seen],
            Source.RESET_H: reset,
        }
        phases, words, peepholes = [], 0, -1
        for tiled in self._tiled(role):
            place, words = self._phase(role, tiled, sources, words, budget)
            phases.append(place)
            if tiled.packed.peepholes is not None:
                peepholes = self.image.add_peepholes(tiled.packed.peepholes, tiled)
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
            (tiled,) = self._tiled(role)
            phase, _ = self._phase(role, tiled, {Source.X: self.rows.operands[role.x]}, 0, 0)
            passes = -(-tiles * self.group // ROWS * WARP // threads)
            return GroupRole(role, number, lag, 0, threads, tiles, passes, 1, (phase,))
        words = self._ahead(role)
        return GroupRole(role, number, lag, 0, threads, first_word=word, words=words)

    def _tiled(self, role: RecurrentRole | DenseRole) -> list[TiledPhase]:
        units = role.kernel.op.hidden if isinstance(role, RecurrentRole) else role.kernel.units
        return [
            TiledPhase(phase, packed, units, self._tiles(role))
            for phase, packed in zip(role.kernel.phases, role.packed(), strict=True)
        ]

    def _phase(
        self,
        role: RecurrentRole | DenseRole,
        tiled: TiledPhase,
        sources: Mapping[Source, Rows | None],
        words: int,
        budget: int,
    ) -> tuple[GroupPhase, int]:
        """Places weights, from word `words` on up to `budget` of them in registers."""
        phase, tiles = tiled.phase, tiled.tiles
        bias = self._words_of_units(tiled.packed.bias, tiled)
        sections = []
        for section, packed in zip(phase.sections, tiled.packed.sections, strict=True):
            rows, operand = sources[section.source], _operand_of(role, section)
            assert rows is not None
            gates = len(section.gates)
            pairs, tail = operand.count_pairs(section.extent)
            image, image_tail = self.image.add_fragments(packed, operand, section.extent, tiled)
            scales = None if packed.scales is None else self._words_of_units(packed.scales, tiled)
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
                    operand,
                    section.source,
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
                    scales,
                )
            )
            words += held * gates * _PAIR_WORDS
            self.at += stored * size
            self.shared_weights += stored * size
            self.streamed += (pairs - held - stored) * size
        return GroupPhase(phase.accumulators, tuple(sections), bias), words

    def _words_of_units(self, part: Part, tiled: TiledPhase) -> SharedWords:
        """A part that goes to shared memory."""
        found = SharedWords(
            self.image.add_rows(part, tiled), self.at, 4 * part.rows * tiled.padded_units
        )
        self.at += found.nbytes
        self.room += found.nbytes
        return found
