"""What stands between a source and the model: stages that are fed blocks and hand blocks on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgelstm.io.block import Block


class Stage(Protocol):
    """Takes blocks in the order in which they came, and hands on none, one or several."""

    def feed(self, block: Block) -> list[Block]:
        """What there is to hand on after this block."""
        ...

    def finish(self) -> list[Block]:
        """What was held back; nothing comes after it."""
        ...


class Chain:
    """Stages one behind the other, as a stage.

    Args:
        stages: the first is fed from outside.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def feed(self, block: Block) -> list[Block]:
        """The block through all stages."""
        return self._through([block], 0)

    def finish(self) -> list[Block]:
        """Each stage ends behind what those in front of it held back."""
        blocks: list[Block] = []
        for i, stage in enumerate(self.stages):
            blocks += self._through(stage.finish(), i + 1)
        return blocks

    def _through(self, blocks: list[Block], first: int) -> list[Block]:
        for stage in self.stages[first:]:
            blocks = [out for block in blocks for out in stage.feed(block)]
        return blocks
