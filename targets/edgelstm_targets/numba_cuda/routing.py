"""Which kernels a model gets on a chip: one for a single stream, one for many, and why.

The clock cycles here are a model to choose by, from the placement and the price of reaching another
block; nothing in them is a promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.pipeline import Pipeline, RecurrentRole
from edgelstm_targets.numba_cuda.placement import Placement, place_pipeline

_EXCHANGE_CYCLES = 1400.0
"""A word to L2 and back to every block; twice for a cell with two phases."""

_CLUSTER_CYCLES = 450.0
_GAIN = 0.8
"""Another block is worth it where it saves a fifth."""

_CLUSTER_SIZES = (2, 4, 8)
_TEAM_SIZES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A kernel that a model gets.

    Args:
        streams: "one", or "many".
        shape: "block", "exchange" or "cluster".
        placement: what stands where; `placement.team` blocks share a stream.
        why: for the manifest.
    """

    streams: str
    shape: str
    placement: Placement
    why: str


def choose_routes(pipeline: Pipeline, chip: Chip, shape: str, reserve: int) -> tuple[Route, ...]:
    """The kernels for a chip.

    Args:
        pipeline: the model.
        chip: for which.
        shape: "auto", or the shape to take for one stream.
        reserve: registers of a thread that weights leave to everything else.
    """
    alone = place_pipeline(pipeline, chip, 1, reserve)
    many = Route("many", "block", alone, f"one block a stream; {_where(alone)}")
    best, found = alone.cost, many
    for name, placement, extra in _teams(pipeline, chip, shape, reserve):
        cost = placement.cost + extra
        if shape == name and found is many:
            best = float("inf")
        if cost < best * (1.0 if found is not many else _GAIN):
            words = f"{placement.team} blocks of {'a cluster' if name == 'cluster' else 'the grid'}"
            why = (
                f"about {cost:.0f} cycles a frame on {words} against {alone.cost:.0f} on one "
                f"block; {_where(placement)}"
            )
            best, found = cost, Route("one", name, placement, why)
    return (many,) if found is many else (found, many)


def _teams(
    pipeline: Pipeline, chip: Chip, shape: str, reserve: int
) -> Iterator[tuple[str, Placement, float]]:
    layers = [role for role in pipeline.roles if isinstance(role, RecurrentRole)]
    hidden = max((role.kernel.op.hidden for role in layers), default=0)
    phases = max((len(role.kernel.phases) for role in layers), default=0)
    if chip.clusters and shape in ("auto", "cluster") and phases == 1:
        for size in _CLUSTER_SIZES:
            if size * 8 <= hidden:
                yield "cluster", place_pipeline(pipeline, chip, size, reserve), _CLUSTER_CYCLES
    if shape in ("auto", "exchange") and phases:
        for size in _TEAM_SIZES:
            if size * 8 <= hidden and size <= chip.processors:
                placement = place_pipeline(pipeline, chip, size, reserve)
                yield "exchange", placement, _EXCHANGE_CYCLES * phases


def _where(placement: Placement) -> str:
    parts = [
        (placement.register_bytes, "in registers"),
        (placement.shared_weight_bytes, "in shared memory"),
        (placement.streamed_bytes, "read from L2 for every frame"),
    ]
    return "weights of a block: " + ", ".join(
        f"{-(-size // 1024)} KiB {place}" for size, place in parts if size
    )
