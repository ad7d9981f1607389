"""Work in stretches that a signal can come between, and sessions that lose nothing by it."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest

from edgelstm.engines.reference import ReferenceKernel
from edgelstm.errors import NonFiniteSampleError
from edgelstm.pace import STRETCH_NS, Pace
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference

FRAMES = np.random.default_rng(3).standard_normal((3000, 2)).astype(np.float32)


@pytest.mark.parametrize("step_ns", [10, 3_000, 400_000, 30_000_000, 900_000_000])
def test_stretches_take_about_their_time(step_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a step takes, from the first one on."""
    now = 0
    monkeypatch.setattr("edgelstm.pace.perf_counter_ns", lambda: now)
    pace = Pace()
    lengths = []
    for part in itertools.islice(pace.stretches(100_000_000), 50):
        lengths.append(part.stop - part.start)
        now += step_ns * lengths[-1]
    for length in lengths:
        assert length * step_ns <= max(STRETCH_NS, step_ns)
    assert max(lengths) * step_ns > STRETCH_NS / 2 or step_ns > STRETCH_NS


def test_stretches_are_all_steps_in_order() -> None:
    """None is left out and none comes twice."""
    done = [i for part in Pace().stretches(5000) for i in range(part.start, part.stop)]
    assert done == list(range(5000))


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Deaf:
    """A kernel whose calls take long and answer no signal, as native code does."""

    def __init__(self, kernel: ReferenceKernel) -> None:
        self._kernel = kernel
        self.facts = kernel.facts
        self.bind = kernel.bind

    def bind_run(self, blocks: Any, inputs: Any, outputs: Any, n_steps: int) -> Any:
        """Two milliseconds a step."""
        run = self._kernel.bind_run(blocks, inputs, outputs, n_steps)

        def deaf() -> int:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            code = run()
            time.sleep(n_steps * 0.002)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            return code

        return deaf


def test_an_interrupted_block_was_not_fed() -> None:
    """A signal is answered soon, and the state is the one from before the block."""
    session = leaky_reference().session()
    session.run(FRAMES[:5])
    before = bytes(session.snapshot())
    kernel: Any = session.kernel
    object.__setattr__(session, "_kernel", Deaf(kernel))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupt_after(0.8):
        session.run(FRAMES)
    assert time.monotonic() - start < 0.8 + 0.5
    assert bytes(session.snapshot()) == before
    object.__setattr__(session, "_kernel", kernel)
    np.testing.assert_array_equal(session.run(FRAMES[5:]), leaky_expected(FRAMES)[5:])


def test_a_refused_block_was_not_fed() -> None:
    """Also when the bad sample is in a later stretch."""
    session = leaky_reference().session()
    session.run(FRAMES[:5])
    before = bytes(session.snapshot())
    bad = FRAMES.copy()
    bad[-1, 1] = np.nan
    with pytest.raises(NonFiniteSampleError, match="in frame 2999, element"):
        session.run(bad)
    assert bytes(session.snapshot()) == before
