"""What an engine offers that steps many streams at once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgelstm.memory import Block

Codes = NDArray[np.int32]
"""What a step returns, for each place."""


class Runner(Protocol):
    """Memory for the streams, and what moves them on."""

    @property
    def checks_frames(self) -> bool:
        """Whether it refuses frames that the model does not take by itself."""
        ...

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> Codes | None:
        """Feed frames `[frame][stream][input block]`; outputs come in the same order.

        Returns:
            For each place what a step returns; None where all streams were fed.
        """
        ...

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        ...

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        ...

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams are moved on."""
        ...

    def close(self) -> None:
        """End what runs between calls."""
        ...


@runtime_checkable
class SharesFrames(Runner, Protocol):
    """A runner that can give all of its streams the same frames."""

    def share_frames(self, apart: int = 0, *, is_last_kept: bool = False) -> None:
        """From now on inputs are `[frame][input block]`, and all streams read them.

        Args:
            apart: how many frames each stream begins behind the one before it.
            is_last_kept: outputs are `[stream][output block]`, of the last frame alone.
        """
        ...


@runtime_checkable
class ManyStreams(Protocol):
    """A kernel that steps many streams at once."""

    def bind_streams(
        self, streams: int, state_bytes: int, *, check_states: bool, threads: int
    ) -> Runner:
        """Memory for that many streams."""
        ...
