"""Pipeline + chip -> Placement: which threads do what, and where weights and vectors stand.

A unit's sum is shared by `lanes` neighbouring threads of a warp, each reading up to 4 words of
weights for each gate at a time (a quad). A role has `tile` units in hand at once and makes `passes`
over its units. The first quads of its weights stay in registers for the whole launch, the next in
shared memory, and the rest is read anew for every frame from L2: so no size is too large, and most
pay nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_targets.numba_cuda.chips import (
    BLOCK_THREADS,
    WARP,
    Chip,
    register_limit,
)
from edgelstm_targets.numba_cuda.image import ImageBuilder, ProductShape, SharedWords
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    ElementwiseRole,
    Pipeline,
    RecurrentRole,
    Role,
    Vector,
)
from edgelstm_targets.numba_cuda.places import (
    PhasePlace,
    Placement,
    Ring,
    RolePlace,
    SectionPlace,
)
from edgelstm_targets.numba_cuda.precision import (
    Integer,
    PackedPhase,
    weight_form,
)

RESERVE = 48
"""Registers of a thread that weights leave to everything else; more where the compiler spills."""

_LANES = (4, 8, 16, 32)
_CAPS = (128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
_SMALL_ROLE = 64
_SHARED_MARGIN = 1024
_RING_ALIGNMENT = 128
_WORD = 4


def place_pipeline(
    pipeline: Pipeline, chip: Chip, team: int = 1, reserve: int = RESERVE
) -> Placement | None:
    """The cheapest placement that fits the chip, or None where no block of a team may be idle.

    A block that posts no word is waited for by nobody: the others run ahead and overwrite the words
    that it still waits for, and it waits for ever. So every block of a team has a unit of every
    recurrent layer. One block (team 1) always has a placement.

    Args:
        pipeline: what is to be done.
        chip: for which chip.
        team: blocks that share one stream.
        reserve: registers of a thread left to everything but weights; more than `RESERVE` where it
            had spilled.
    """
    found: list[Placement] = []
    for lanes in _LANES:
        for cap in _CAPS:
            placement = _try(pipeline, chip, team, reserve, lanes, cap)
            if placement is not None:
                found.append(placement)
    # Small roles never take more than the rest of a block leaves: there is always one.
    roomy = [each for each in found if register_limit(each.threads) >= reserve]
    return min(roomy or found, key=lambda each: each.cost, default=None)


@dataclass(slots=True)
class _Draft:
    """A role's threads, before weights have a place."""

    role: Role
    threads: int
    lanes: int = 1
    tile: int = 0
    passes: int = 1


def _try(
    pipeline: Pipeline, chip: Chip, team: int, reserve: int, lanes: int, cap: int
) -> Placement | None:
    drafts = [_draft(role, team, lanes, cap) for role in pipeline.roles]
    total = sum(draft.threads for draft in drafts)
    if total > BLOCK_THREADS or any(_leaves_a_block_idle(draft, team) for draft in drafts):
        return None
    limit = register_limit(total)
    has_spilled = reserve > RESERVE
    return _Placing(pipeline, chip, team, drafts, max(0, limit - reserve), has_spilled).place()


def _leaves_a_block_idle(draft: _Draft, team: int) -> bool:
    """Whether the last block of a team has no unit of a recurrent layer."""
    if not isinstance(draft.role, RecurrentRole):
        return False
    return draft.tile * draft.passes * (team - 1) >= draft.role.kernel.op.hidden


def _draft(role: Role, team: int, lanes: int, cap: int) -> _Draft:
    if isinstance(role, RecurrentRole):
        return _tiled(role, -(-role.kernel.op.hidden // team), lanes, cap)
    if isinstance(role, DenseRole):
        wide = next((n for n in (32, 16, 8) if role.kernel.units * n <= _SMALL_ROLE), 4)
        return _tiled(role, role.kernel.units, wide, _SMALL_ROLE)
    if isinstance(role, ElementwiseRole):
        return _Draft(role, min(-(-role.target.extent // WARP) * WARP, _SMALL_ROLE))
    return _Draft(role, WARP)


def _tiled(role: Role, units: int, lanes: int, cap: int) -> _Draft:
    grain = WARP // lanes
    most = max(cap // lanes // grain * grain, grain)
    passes = -(-units // most)
    each = -(-units // passes)
    tile = -(-each // grain) * grain
    return _Draft(role, tile * lanes, lanes, tile, passes)


class _Placing:
    """Gives every vector and weight its place."""

    def __init__(
        self,
        pipeline: Pipeline,
        chip: Chip,
        team: int,
        drafts: Sequence[_Draft],
        budget: int,
        has_spilled: bool,
    ) -> None:
        self.pipeline = pipeline
        self.chip = chip
        self.team = team
        self.drafts = drafts
        self.budget = budget
        self.has_spilled = has_spilled
        self.at = 0
        self.image = ImageBuilder()
        self.register_bytes = 0
        self.shared_weights = 0
        self.streamed = 0

    def place(self) -> Placement | None:
        """The placement, or None where not even the vectors fit."""
        rings = dict(self._rings())
        extra = {draft.role: self._extra_rings(draft) for draft in self.drafts}
        vector_bytes = self.at
        tables: dict[Role, SharedWords | None] = {}
        for draft in self.drafts:
            tables[draft.role], self.at = self.image.add_tables(draft.role, self.at)
        room = self.chip.shared_bytes - _SHARED_MARGIN
        if self.at > room:
            return None
        roles, first = [], 0
        for number, draft in enumerate(self.drafts):
            place = self._role(number, first, draft, rings, extra[draft.role], room)
            roles.append(replace(place, tables=tables[draft.role]))
            first += draft.threads
        for role in self.pipeline.roles:
            self.image.add_constants(role)
        return Placement(
            self.chip,
            self.team,
            tuple(roles),
            rings,
            first,
            vector_bytes,
            self.at,
            tuple(self.image.layouts),
            self.image.constants,
            self.register_bytes,
            self.shared_weights,
            self.streamed,
        )

    def _rings(self) -> Iterator[tuple[Vector, Ring]]:
        for vector, depth in self.pipeline.depths.items():
            extents = [vector.extent, *self._read_extents(vector)]
            yield vector, self._ring(max(extents), depth, vector.dtype)

    def _read_extents(self, vector: Vector) -> Iterator[int]:
        """How far the lanes of products read beyond its end."""
        for draft in self.drafts:
            role = draft.role
            if isinstance(role, (RecurrentRole, DenseRole)):
                for phase in role.kernel.phases:
                    for section in phase.sections:
                        if _vector_of(role, section.source) is vector:
                            yield _padded(role, section, draft.lanes)

    def _extra_rings(self, draft: _Draft) -> tuple[Ring | None, Ring | None]:
        role = draft.role
        if not isinstance(role, RecurrentRole) or len(role.kernel.phases) == 1:
            return None, None
        (section,) = (
            section
            for section in role.kernel.phases[1].sections
            if section.source is Source.RESET_H
        )
        padded = _padded(role, section, draft.lanes)
        gate = DType.F32 if not isinstance(role.precision, Integer) else DType.I32
        return self._ring(role.kernel.op.hidden, 1, gate), self._ring(padded, 2, role.seen.dtype)

    def _ring(self, extent: int, depth: int, dtype: DType) -> Ring:
        step = _align(extent * dtype.itemsize)
        ring = Ring(self.at, step, depth - 1, dtype)
        self.at += step * depth
        return ring

    def _role(
        self,
        number: int,
        first: int,
        draft: _Draft,
        rings: dict[Vector, Ring],
        extra: tuple[Ring | None, Ring | None],
        room: int,
    ) -> RolePlace:
        role, lag = draft.role, self.pipeline.lags[draft.role]
        if not isinstance(role, (RecurrentRole, DenseRole)):
            return RolePlace(role, number, lag, first, draft.threads)
        kept, reset = extra
        sources = {Source.X: rings[role.x], Source.RESET_H: reset}
        if isinstance(role, RecurrentRole):
            sources[Source.H] = rings[role.seen]
        shape = ProductShape(
            role.kernel.op.hidden if isinstance(role, RecurrentRole) else role.kernel.units,
            self.team if isinstance(role, RecurrentRole) else 1,
            draft.passes,
            draft.tile,
            draft.lanes,
        )
        words, phases, peepholes = 0, [], -1
        for phase, packed in zip(role.kernel.phases, role.packed(), strict=True):
            place, words = self._phase(phase, packed, shape, sources, words, room)
            phases.append(place)
            if packed.peepholes is not None:
                peepholes = self.image.add_rows(packed.peepholes, shape)
        return RolePlace(
            role,
            number,
            lag,
            first,
            draft.threads,
            draft.lanes,
            draft.tile,
            draft.passes,
            tuple(phases),
            words,
            peepholes,
            kept,
            reset,
            max(0, self.budget - words) if self.has_spilled else None,
        )

    def _phase(
        self,
        phase: Phase,
        packed: PackedPhase,
        shape: ProductShape,
        sources: dict[Source, Ring | None],
        words: int,
        room: int,
    ) -> tuple[PhasePlace, int]:
        bias = self.image.add_rows(packed.bias, shape)
        sections = []
        threads = shape.tile * shape.lanes
        for index, section in enumerate(phase.sections):
            given = packed.sections[index]
            ring, form = sources[section.source], given.form
            assert ring is not None
            gates = len(section.gates)
            each = form.words(section.extent, shape.lanes)
            quads = -(-section.extent // (each * form.inputs * shape.lanes))
            held = 0
            if shape.passes == 1:
                held = min(quads, max(0, self.budget - words) // (each * gates))
            row = threads * gates * each * _WORD * shape.passes
            stored = min(quads - held, max(0, room - self.at) // row)
            scales = given.scales
            sections.append(
                SectionPlace(
                    ring,
                    section.source,
                    int(section.source is Source.H),
                    form,
                    each,
                    quads,
                    gates,
                    int(section.accumulators == (0, 1, 3)),
                    held,
                    stored,
                    self.image.add_section(given, each, shape),
                    self.at,
                    words,
                    -1 if scales is None else self.image.add_rows(scales, shape),
                    self.image.add_group_scales(given, shape),
                )
            )
            words += held * gates * each
            self.at += stored * row
            self.register_bytes += held * row
            self.shared_weights += stored * row
            self.streamed += (quads - held - stored) * row
        return PhasePlace(phase.accumulators, tuple(sections), bias), words


def _vector_of(role: RecurrentRole | DenseRole, source: Source) -> Vector | None:
    if source is Source.X:
        return role.x
    return role.seen if source is Source.H and isinstance(role, RecurrentRole) else None


def _padded(role: RecurrentRole | DenseRole, section: Section, lanes: int) -> int:
    """Inputs of a section with those that its lanes read beyond its end."""
    form = weight_form(role.precision, section.source)
    grain = form.words(section.extent, lanes) * form.inputs * lanes
    return -(-section.extent // grain) * grain


def _align(size: int) -> int:
    return -(-size // _RING_ALIGNMENT) * _RING_ALIGNMENT
