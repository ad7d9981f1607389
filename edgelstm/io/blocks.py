"""Blocks cut and put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Block


def pick_samples(block: Block, picked: NDArray[Any]) -> Block:
    """The samples that a mask or indices name, in that order."""
    return Block(
        {name: values[picked] for name, values in block.frames.items()},
        block.stamps[picked],
        block.arrival[picked],
        block.sequence[picked],
        block.flags[picked],
    )


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
