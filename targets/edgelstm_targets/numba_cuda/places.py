"""What a placement consists of: which threads do a role, where its weights and vectors stand."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgelstm.dtypes import DType
from edgelstm.engines.cuda_image import Layout
from edgelstm_compiler.ir.kernels import Source
from edgelstm_targets.numba_cuda.chips import (
    WARP,
    Chip,
)
from edgelstm_targets.numba_cuda.costs import Work
from edgelstm_targets.numba_cuda.image import SharedWords
from edgelstm_targets.numba_cuda.pipeline import (
    Role,
    Vector,
)
from edgelstm_targets.numba_cuda.precision import (
    WeightForm,
)


@dataclass(frozen=True, slots=True)
class Ring:
    """A vector in shared memory: frame t stands at offset + (t & mask) * step."""

    offset: int
    step: int
    mask: int
    dtype: DType = DType.F32


@dataclass(frozen=True, slots=True)
class SectionPlace:
    """One part of a product: inputs of one vector times their weights.

    Args:
        ring: the vector.
        source: what it is.
        before: 1 if it is the previous frame's.
        form: what a word of weights holds.
        words: of a quad.
        quads: of each lane.
        gates: weights per input and unit.
        skip: 1 if the third gate adds to the fourth accumulator.
        in_registers: quads kept there.
        in_shared: quads kept there; the rest is streamed.
        image: offset of the weights in the image.
        shared: offset of those in shared memory.
        first_word: place of those in registers.
        scales: offset of the scales or multipliers of its rows in the image, or -1.
        group_scales: offset of those of each quad, or -1.
    """

    ring: Ring
    source: Source
    before: int
    form: WeightForm
    words: int
    quads: int
    gates: int
    skip: int
    in_registers: int
    in_shared: int
    image: int
    shared: int
    first_word: int
    scales: int
    group_scales: int


@dataclass(frozen=True, slots=True)
class PhasePlace:
    """One product with all its sections."""

    accumulators: int
    sections: tuple[SectionPlace, ...]
    bias: int


@dataclass(frozen=True, slots=True, eq=False)
class RoleThreads:
    """A role on its threads, whatever they do for it.

    Args:
        role: what is done.
        number: of the role; its named barrier is number + 1.
        lag: frames behind the first role.
        first_thread: of the block.
        threads: whole warps.
        tables: of functions that it looks up, or None.
    """

    role: Role
    number: int
    lag: int
    first_thread: int
    threads: int
    tables: SharedWords | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class RolePlace(RoleThreads):
    """A role on its threads, with its weights in words.

    Args:
        lanes: threads that share a sum.
        tile: units in hand at once.
        passes: over the units.
        phases: products, in order.
        words: weights that a thread holds in registers.
        peepholes: offset in the image, or -1.
        kept: ring of what a first phase keeps for the second (GRU's z), or None.
        reset: ring of r*h, or None.
        spare: registers of a thread that weights may take beyond their words, made float32 ahead
            of the first frame; None: as the compiler likes.
    """

    lanes: int = 1
    tile: int = 0
    passes: int = 1
    phases: tuple[PhasePlace, ...] = ()
    words: int = 0
    peepholes: int = -1
    kept: Ring | None = None
    reset: Ring | None = None
    spare: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Everything about one kernel that is decided before its code is written.

    Args:
        chip: what it is for.
        team: blocks that share one stream.
        roles: in the order of their threads.
        rings: of every vector.
        threads: of a block.
        vector_bytes: shared memory of rings, from 0.
        shared_bytes: shared memory in all.
        layouts: the image.
        constants: where constants stand in the image, by offset in the blob.
        register_bytes: weights of a block in registers.
        shared_weight_bytes: in shared memory.
        streamed_bytes: read anew for each frame.
    """

    chip: Chip
    team: int
    roles: tuple[RolePlace, ...]
    rings: dict[Vector, Ring]
    threads: int
    vector_bytes: int
    shared_bytes: int
    layouts: tuple[Layout, ...]
    constants: dict[int, int]
    register_bytes: int
    shared_weight_bytes: int
    streamed_bytes: int

    @property
    def work(self) -> Work:
        """What a block does for a frame."""
        fma = sum(
            place.passes * section.quads * section.gates * _work(section) * place.threads
            for place in self.roles
            for phase in place.phases
            for section in phase.sections
        )
        chains = [
            (
                place.passes * len(place.phases),
                place.passes
                * sum(
                    section.quads * _work(section)
                    for phase in place.phases
                    for section in phase.sections
                ),
            )
            for place in self.roles
        ]
        costs = self.chip.costs
        starts, multiplies = max(
            chains, key=lambda each: each[0] * costs.start + each[1] * costs.multiply
        )
        return Work(
            fma,
            starts,
            multiplies,
            self.threads // WARP,
            self.shared_weight_bytes,
            self.streamed_bytes,
        )

    @property
    def cost(self) -> float:
        """Clock cycles of a frame, roughly: to choose by, not to promise (`costs.py`)."""
        return self.work.cycles(self.chip.costs)


def _work(section: SectionPlace) -> int:
    """Instructions of a thread for a gate of a quad."""
    return section.words * section.form.instructions
