"""How many columns a tile has: as many as the registers of an instruction set hold the sums of."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edgelstm_targets.processors.isa import InstructionSet

_MOST_IN_TILE = 12


@dataclass(frozen=True, slots=True)
class BatchSet(InstructionSet):
    """An instruction set as kernels of many columns use it: one register of units at once."""

    def units(self, accumulators: int, unit_block: int) -> int:
        """A register; the others hold the sums of further columns."""
        del accumulators
        return min(self.lanes, unit_block)

    @property
    def keeps_vectors(self) -> bool:
        """Prepared vectors stand in the workspace, of every column at once."""
        return True


def for_columns(isa: InstructionSet) -> BatchSet:
    """The same processor, for kernels of many columns."""
    return BatchSet(**{each.name: getattr(isa, each.name) for each in fields(isa)})


def tile_sizes(isa: InstructionSet, registers: int, temporaries: int = 0) -> tuple[int, ...]:
    """Columns of the tiles that there is code for, the largest first.

    Three quarters of the registers hold sums; the others weights and factors. Fewer columns than a
    tile has are padded, so two smaller tiles follow.

    Args:
        isa: the instruction set.
        registers: that the sums of one column take.
        temporaries: registers that a product needs besides.
    """
    room = isa.registers * 3 // 4 - temporaries
    most = min(_MOST_IN_TILE, max(1, room // registers))
    return tuple(dict.fromkeys(max(1, most * third // 3) for third in (3, 2, 1)))
