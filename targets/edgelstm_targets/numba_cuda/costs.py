"""What a frame costs on a chip, in clock cycles: the constants that routing chooses by.

Nothing here is a promise. The defaults are a model, not a measurement: issue rates of the chips,
and latencies estimated for Hopper (one block at H=64: 430 to 500 cycles a step; 16 blocks of a
cluster at H=256: 700 to 850; blocks that poll words in L2: 1100 to 1300). A GPU's own constants
come from `python -m tests.gpu.session`, which measures and prints those that fit;
`--option costs=FILE` takes its file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Costs:
    """Cycles, and rates per cycle of one multiprocessor.

    Args:
        exchange: a word to L2 and back to every block; twice for a cell with two phases.
        cluster: a store into all blocks of a cluster and its barrier.
        gain: more blocks are worth it below this part of the cost of one block.
        fma_a_cycle: multiply-adds of a multiprocessor.
        frame: what each of them takes anyway: vectors through shared memory, the functions of a
            cell one behind the other, the barrier.
        start: a product's sum over lanes and its cell, once for each pass.
        multiply: a multiply-add of one thread, waiting for its operands.
        barrier: of a block, for each of its warps.
        shared_bytes_a_cycle: weights read from shared memory.
        l2_bytes_a_cycle: weights read from L2.
        l2_latency: until the first of those is there.
    """

    exchange: float = 900.0
    cluster: float = 230.0
    gain: float = 0.8
    fma_a_cycle: float = 128.0
    frame: float = 220.0
    start: float = 80.0
    multiply: float = 4.0
    barrier: float = 4.0
    shared_bytes_a_cycle: float = 128.0
    l2_bytes_a_cycle: float = 32.0
    l2_latency: float = 700.0

    def changes(self) -> dict[str, float]:
        """What differs from the defaults, for the manifest."""
        mine, plain = dataclasses.asdict(self), dataclasses.asdict(Costs())
        return {name: value for name, value in mine.items() if value != plain[name]}


MODEL = Costs()

WAITING = 1.3
"""Blocks that share a multiprocessor do not fill each other's gaps quite."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a block does for a frame, in the units of `Costs`.

    Args:
        fma: multiply-adds of all its threads.
        starts: passes of the slowest role.
        multiplies: multiply-adds of one thread of that role, one behind the other.
        warps: at its barrier.
        shared_bytes: weights read from shared memory.
        streamed_bytes: weights read from L2.
    """

    fma: int
    starts: int
    multiplies: int
    warps: int
    shared_bytes: int
    streamed_bytes: int

    def cycles(self, costs: Costs) -> float:
        """Clock cycles of a frame, roughly: to choose by, not to promise."""
        chain = self.starts * costs.start + self.multiplies * costs.multiply
        streaming = self.shared_bytes / costs.shared_bytes_a_cycle
        if self.streamed_bytes:
            streaming += self.streamed_bytes / costs.l2_bytes_a_cycle + costs.l2_latency
        anyway = costs.frame + self.warps * costs.barrier
        return max(self.fma / costs.fma_a_cycle, chain) + anyway + streaming

    def busy_cycles(self, costs: Costs, residents: int) -> float:
        """Clock cycles of a multiprocessor for each of so many blocks that share it."""
        pipes = (
            self.fma / costs.fma_a_cycle,
            self.shared_bytes / costs.shared_bytes_a_cycle,
            self.streamed_bytes / costs.l2_bytes_a_cycle,
        )
        alone = self.cycles(costs)
        return min(alone, max(*pipes, WAITING * alone / residents))


def read_costs(path: str) -> Mapping[str, Costs]:
    """Constants by the name of the chip, out of a file of `tests.gpu.session` or one by hand.

    Args:
        path: JSON, `{"costs": {"sm_90": {"exchange": 1100, ...}}}`; what is not named stays.

    Raises:
        CapabilityError: it cannot be read, or names what there is not.
    """
    names = {field.name for field in dataclasses.fields(Costs)}
    try:
        data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        table = {
            chip: {name: float(value) for name, value in given.items()}
            for chip, given in data["costs"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CapabilityError(
            f"option costs: {path} is no table of costs ({error!r}); expected JSON, "
            '{"costs": {"sm_90": {"exchange": 1100}}}'
        ) from error
    for chip, given in table.items():
        unknown = sorted(set(given) - names)
        wrong = sorted(name for name, value in given.items() if not 0 < value < 1e9)
        if unknown or wrong:
            raise CapabilityError(
                f"option costs: {path} gives {chip} {(unknown or wrong)[0]!r}, expected positive "
                f"numbers for {', '.join(sorted(names))}"
            )
    return {chip: Costs(**given) for chip, given in table.items()}
