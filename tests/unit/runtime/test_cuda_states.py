"""States that the GPU gives back: none is kept that cannot be gone on with. No driver is needed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.base import Blocks
from edgelstm.engines.cuda import CudaKernel
from edgelstm.engines.cuda_samples import states_are_kept
from edgelstm.signature import StateSpec
from tests.unit.runtime.toy_models import LEAKY

STATES = (
    StateSpec("n", DType.I32, (1,), 0),
    StateSpec("h", DType.F32, (2,), 4),
    StateSpec("c", DType.F32, (2,), 12),
)
SIGNATURE = dataclasses.replace(LEAKY, states=STATES, checks_states=True)


def blocks(count: int) -> np.ndarray[Any, Any]:
    """State blocks whose integer has the bits of a NaN."""
    states = np.zeros((count, 20), np.uint8)
    states[:, :4] = 0xFF
    return states


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("block", "at"), [(0, 4), (1, 8), (2, 12), (2, 16)])
def test_one_bad_number_anywhere_is_seen(block: int, at: int, bad: float) -> None:
    """In any block, any state, any element; integers are never bad."""
    states = blocks(3)
    assert states_are_kept(SIGNATURE, states)
    states[block, at : at + 4] = np.float32([bad]).view(np.uint8)
    assert not states_are_kept(SIGNATURE, states)


def test_the_limit_of_states_counts() -> None:
    """A magnitude beyond it is no state to go on with, the limit itself is."""
    signature = dataclasses.replace(SIGNATURE, state_limit=10.0)
    states = blocks(1)
    states[0, 8:12] = np.float32([-10.0]).view(np.uint8)
    assert states_are_kept(signature, states)
    states[0, 8:12] = np.float32([-10.5]).view(np.uint8)
    assert not states_are_kept(signature, states)


class _Runner:
    """A device whose state is the sum of its inputs, as the runner of one stream."""

    def __init__(self) -> None:
        self.state = np.zeros(2, np.float32)

    def write_state(self, stream: int, state: Any) -> None:
        self.state = np.array(state).view(np.float32).copy()

    def read_state(self, stream: int) -> Any:
        return self.state.view(np.uint8)

    def run(self, frame: Any, result: Any, steps: int) -> None:
        with np.errstate(over="ignore"):
            self.state = self.state + frame.view(np.float32)
        result.view(np.float32)[:] = self.state


def test_a_run_keeps_the_frames_before_the_one_that_overflows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says how many were done, and their state stays; what came of the bad frame does not."""
    signature = dataclasses.replace(LEAKY, checks_states=True)
    kernel = CudaKernel.__new__(CudaKernel)
    runner = _Runner()
    for name, value in (("_signature", signature), ("_idle", [runner]), ("_state_bytes", 8)):
        setattr(kernel, name, value)
    frames = np.full((4, 2), 2e38, np.float32)
    results, state = np.zeros_like(frames), np.zeros(8, np.uint8)
    memory = Blocks(state, np.zeros(0, np.uint8), frames[0], results[0])
    code = kernel.bind_run(memory, frames, results, 4)()
    assert code == -1 - 1
    np.testing.assert_array_equal(state.view(np.float32), np.float32([2e38, 2e38]))
    frames[...] = 1.0
    runner.write_state(0, np.zeros(8, np.uint8))
    state[...] = 0
    assert kernel.bind_run(memory, frames, results, 4)() == 0
    np.testing.assert_array_equal(state.view(np.float32), np.float32([4.0, 4.0]))
