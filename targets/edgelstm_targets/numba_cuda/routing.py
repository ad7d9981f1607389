"""Which kernels a model gets on a chip: one for a single stream, one for many, and why.

Every shape that a chip and a model allow is placed and priced (`costs.py`); the cheapest is taken,
one block unless more of them are clearly cheaper. `--option shape=` takes the choice from it, and
`--option costs=` the prices. What was compared stands in the manifest, and `inspect` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgelstm_targets.numba_cuda.chips import WARP, Chip, register_limit
from edgelstm_targets.numba_cuda.mma_model import cell_cycles
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement
from edgelstm_targets.numba_cuda.pipeline import Pipeline, RecurrentRole
from edgelstm_targets.numba_cuda.placement import place_pipeline
from edgelstm_targets.numba_cuda.places import Placement

_CLUSTER_SIZES = (2, 4, 8)
_TEAM_SIZES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A kernel that a model gets.

    Args:
        streams: "one", "many", or "doorbell" (one stream, and the kernel stays).
        shape: "block", "exchange", "cluster" or "tensor" (`mma_routing.py`).
        placement: what stands where; `placement.team` blocks share a stream.
        cycles: of a frame where a block has its multiprocessor for itself.
        busy_cycles: of a frame, of a multiprocessor for each of the blocks that fill it.
        why: what was compared.
        exchanges: how often a frame is exchanged between blocks.
        above: streams a multiprocessor above which a session takes it (`mma_routing.py`).
    """

    streams: str
    shape: str
    placement: Placement | GroupPlacement
    cycles: float
    busy_cycles: float
    why: str
    exchanges: int = 0
    above: float = 0.0

    @property
    def group(self) -> int:
        """Streams of a block."""
        return self.placement.group if isinstance(self.placement, GroupPlacement) else 1

    @property
    def name(self) -> str:
        """Of its code: "one", "many", "doorbell", "many_16"."""
        return self.streams if self.group == 1 else f"{self.streams}_{self.group}"

    def price_above(self, load: float) -> float:
        """Clock cycles of a frame of all streams, a little more than `load` a multiprocessor."""
        blocks = math.floor(load * self.placement.team / self.group) + 1
        if self.placement.team > 1 and blocks > 1:
            return math.inf  # blocks that wait for each other are all on the chip at once
        return max(self.cycles, blocks * self.busy_cycles)

    @property
    def explanation(self) -> str:
        """Why this shape, and where its weights stand; for the manifest."""
        return f"{self.why}; {_where(self.placement)}"


def choose_routes(
    pipeline: Pipeline, chip: Chip, shape: str, reserve: int, doorbell: bool = False
) -> tuple[Route, ...]:
    """The kernels for a chip.

    Args:
        pipeline: the model.
        chip: for which.
        shape: "auto", or the shape to take for one stream.
        reserve: registers of a thread that weights leave to everything else.
        doorbell: a kernel that waits for frames is wanted, too.
    """
    alone = place_pipeline(pipeline, chip, 1, reserve)
    assert alone is not None
    many = Route(
        "many", "block", alone, alone.cost, _busy_cycles(alone, reserve), "one block a stream"
    )
    teams = [
        Route("one", name, placement, cycles, cycles, "", exchanges)
        for name, placement, price, exchanges in _teams(pipeline, chip, shape, reserve)
        for cycles in (placement.cost + price * exchanges,)
    ]
    asked = [route for route in teams if route.shape == shape]
    best = min(asked or teams, key=lambda route: route.cycles, default=many)
    if not asked and best.cycles >= alone.cost * chip.costs.gain:
        best = many
    one = replace(best, streams="one", why=_why(alone, teams, shape))
    waiting = replace(
        one, streams="doorbell", why=f"stays on the GPU and waits for frames; {one.why}"
    )
    return (
        *((one,) if best is not many else ()),
        many,
        *((waiting,) if doorbell else ()),
    )


def _busy_cycles(placement: Placement, reserve: int) -> float:
    """Cycles of a multiprocessor that is full of its blocks, for each of them."""
    chip, threads = placement.chip, placement.threads
    words = max(place.words for place in placement.roles)
    registers = min(register_limit(threads), words + reserve)
    residents = chip.resident_blocks(threads, registers, placement.shared_bytes)
    cells = [
        cell_cycles(place.role, place.passes * place.threads // WARP)
        for place in placement.roles
        if isinstance(place.role, RecurrentRole)
    ]
    products = placement.work.fma / chip.costs.fma_a_cycle
    return max(
        products + sum(issue for issue, _ in cells),
        sum(others for _, others in cells),
        placement.work.busy_cycles(chip.costs, residents),
    )


def _why(alone: Placement, teams: list[Route], shape: str) -> str:
    """What was compared, the cheapest of each shape."""
    prices = [f"one block about {alone.cost:.0f}"]
    for name in ("cluster", "exchange"):
        found = [route for route in teams if route.shape == name]
        if found:
            least = min(found, key=lambda route: route.cycles)
            words = "of a cluster" if name == "cluster" else "that exchange words"
            prices.append(f"{least.placement.team} blocks {words} about {least.cycles:.0f}")
    reason = f"asked for by shape={shape}; " if shape != "auto" else ""
    return f"{reason}cycles a frame: {', '.join(prices)}"


def _teams(
    pipeline: Pipeline, chip: Chip, shape: str, reserve: int
) -> Iterator[tuple[str, Placement, float, int]]:
    """Teams of each shape and size, the price of an exchange, and how many a frame takes."""
    layers = [role for role in pipeline.roles if isinstance(role, RecurrentRole)]
    hidden = max((role.kernel.op.hidden for role in layers), default=0)
    phases = max((len(role.kernel.phases) for role in layers), default=0)
    if chip.clusters and shape in ("auto", "cluster") and phases == 1:
        for size in _CLUSTER_SIZES:
            if size * 8 <= hidden:
                placement = place_pipeline(pipeline, chip, size, reserve)
                if placement is not None:
                    yield "cluster", placement, chip.costs.cluster, 1
    if shape in ("auto", "exchange") and phases:
        for size in _TEAM_SIZES:
            if size * 8 <= hidden and size <= chip.processors:
                placement = place_pipeline(pipeline, chip, size, reserve)
                if placement is not None:
                    yield "exchange", placement, chip.costs.exchange, phases


def _where(placement: Placement | GroupPlacement) -> str:
    parts = [
        (placement.register_bytes, "in registers"),
        (placement.shared_weight_bytes, "in shared memory"),
        (placement.streamed_bytes, "read from L2 for every frame"),
    ]
    return "weights of a block: " + ", ".join(
        f"{-(-size // 1024)} KiB {place}" for size, place in parts if size
    )
