"""Blocks put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm.io.block import Block


def join_blocks(blocks: Sequence[Block]) -> Block:
    """One block of all samples of at least one; they have the same frames."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        {name: np.concatenate([b.frames[name] for b in blocks]) for name in blocks[0].frames},
        np.concatenate([block.stamps for block in blocks]),
        np.concatenate([block.arrival for block in blocks]),
        np.concatenate([block.sequence for block in blocks]),
        np.concatenate([block.flags for block in blocks]),
    )
