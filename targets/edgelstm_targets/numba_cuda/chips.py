"""The chips that kernels are compiled for, and what of them decides how a model is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.errors import CapabilityError
from edgelstm_targets.numba_cuda.costs import MODEL, Costs

WARP = 32
REGISTER_FILE = 65536
"""32-bit registers of a multiprocessor, on every chip here."""

SCHEDULERS = 4
"""Of a multiprocessor; each has a quarter of its registers."""

THREAD_REGISTERS = 255
"""What one thread can name."""

BLOCK_THREADS = 1024


def register_limit(threads: int) -> int:
    """Registers that a thread of a block can have.

    A multiprocessor deals the warps of a block out to four schedulers, each with its part of the
    register file: 13 warps get what 16 would get.
    """
    warps = -(-threads // WARP)
    fullest = -(-warps // SCHEDULERS) * WARP
    return min(THREAD_REGISTERS, REGISTER_FILE // SCHEDULERS // fullest // 8 * 8)


PROCESSOR_WARPS = 64
"""Of a multiprocessor; some chips have 48, but registers or shared memory run out before."""

BLOCK_SHARED = 1024
"""Shared memory of a block that the driver keeps for itself."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One compute capability.

    Args:
        name: `sm_87`.
        capability: (8, 7).
        shared_bytes: what one block may take, with leave.
        processors: multiprocessors of the smallest product worth spreading one stream over.
        clusters: blocks can form a cluster and write each other's shared memory.
        toolkits: major versions of CUDA whose wheels know it.
        product: an example, for messages.
        costs: what routing chooses by.
    """

    name: str
    capability: tuple[int, int]
    shared_bytes: int
    processors: int
    clusters: bool
    toolkits: tuple[int, ...]
    product: str
    costs: Costs = MODEL

    def resident_blocks(self, threads: int, registers: int, shared_bytes: int) -> int:
        """How many blocks share a multiprocessor, 1 at least.

        Args:
            threads: of a block.
            registers: of a thread.
            shared_bytes: of a block.
        """
        warps = -(-threads // WARP)
        granted = min(THREAD_REGISTERS, -(-registers // 8) * 8)
        of_scheduler = REGISTER_FILE // SCHEDULERS // WARP // granted
        return max(
            1,
            min(
                of_scheduler * SCHEDULERS // warps,
                self.shared_bytes // (shared_bytes + BLOCK_SHARED),
                PROCESSOR_WARPS // warps,
            ),
        )


CHIPS = (
    Chip("sm_86", (8, 6), 101376, 20, False, (12, 13), "RTX 30, A10"),
    Chip("sm_87", (8, 7), 166912, 8, False, (12, 13), "Jetson Orin"),
    Chip("sm_89", (8, 9), 101376, 20, False, (12, 13), "RTX 40, L4, L40"),
    Chip("sm_90", (9, 0), 232448, 78, True, (12, 13), "H100, H200"),
    Chip("sm_100", (10, 0), 232448, 140, True, (13,), "B200"),
    Chip("sm_120", (12, 0), 101376, 20, False, (13,), "RTX 50"),
)
"""sm_120 has clusters too; they are left out there until measured."""


def find_chips(text: str, toolkit: int) -> tuple[Chip, ...]:
    """The chips that `sm_87`, `sm_87+sm_90` or `all` means for the wheels of one CUDA version.

    Raises:
        CapabilityError: an unknown chip, or one that these wheels do not know.
    """
    if text == "all":
        return tuple(chip for chip in CHIPS if toolkit in chip.toolkits)
    by_name = {chip.name: chip for chip in CHIPS}
    found = []
    for name in text.split("+"):
        chip = by_name.get(name)
        if chip is None:
            known = ", ".join(f"{each.name} ({each.product})" for each in CHIPS)
            raise CapabilityError(f"target cuda knows no chip {name!r}; it has all, {known}")
        if toolkit not in chip.toolkits:
            raise CapabilityError(
                f"{name} ({chip.product}) needs CUDA {chip.toolkits[0]}; with the wheels of CUDA "
                f"{toolkit} there are {', '.join(c.name for c in CHIPS if toolkit in c.toolkits)}"
            )
        found.append(chip)
    return tuple(sorted(set(found), key=lambda chip: chip.capability))
