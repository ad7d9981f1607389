"""One session, one caller at a time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import BusyError
from edgelstm.sessions import Session
from tests.unit.runtime.toy_models import leaky_reference

CALLS = {
    "step": lambda s: s.step(np.zeros(2, np.float32)),
    "run": lambda s: s.run(np.zeros((3, 2), np.float32)),
    "reset": lambda s: s.reset(),
    "snapshot": lambda s: s.snapshot(),
    "restore": lambda s: s.restore(leaky_reference().session().snapshot()),
    "close": lambda s: s.close(),
}


class Waiting:
    """A step of a kernel that waits until it is told to go on."""

    def __init__(self, session: Session) -> None:
        self.inside, self.goes_on = threading.Event(), threading.Event()
        self._real = session._step
        session._step = self

    def __call__(self) -> int:
        """Wait, then step."""
        self.inside.set()
        assert self.goes_on.wait(20)
        return self._real()


@pytest.mark.parametrize("name", CALLS)
def test_a_second_caller_is_refused(name: str) -> None:
    """While a step of another thread runs, every method is; afterwards all is as it was."""
    session = leaky_reference().session()
    waiting = Waiting(session)
    result: list[Any] = []
    thread = threading.Thread(
        target=lambda: result.append(session.step(np.ones(2, np.float32)).copy())
    )
    thread.start()
    assert waiting.inside.wait(20)
    with pytest.raises(BusyError, match="in another call just now"):
        CALLS[name](session)
    waiting.goes_on.set()
    thread.join()
    np.testing.assert_array_equal(result[0], [2, -1])
    CALLS[name](session)


def test_a_call_from_within_a_call_is_refused() -> None:
    """An array that steps the session while it is converted."""
    session = leaky_reference().session()

    class Sneaky:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return session.step(np.ones(2, np.float32))

    with pytest.raises(BusyError, match="within"):
        session.step(Sneaky())
    session.step(np.ones(2, np.float32))


def test_a_refused_frame_gives_the_turn_back() -> None:
    """Whatever error it was."""
    session = leaky_reference().session()
    for bad in ([1, 2, 3], np.array([np.nan, 0], np.float32), "text"):
        with pytest.raises(Exception, match=r".") as caught:
            session.step(bad)
        assert not isinstance(caught.value, BusyError)
    session.step(np.ones(2, np.float32))


@pytest.mark.parametrize("name", CALLS)
def test_a_token_that_ctrl_c_lost_is_found(name: str) -> None:
    """An interrupt just behind the taking leaves nobody inside: the next call goes on."""
    session = leaky_reference().session()
    session._turn.take()
    CALLS[name](session)
    session._turn.take()
    session._turn.give(None)


def test_two_threads_never_mix_two_streams() -> None:
    """Blocks are fed whole or refused: the state after n of them is that of n."""
    session = leaky_reference().session()
    block = np.ones((400, 2), np.float32)
    done: list[int] = []

    def feed() -> None:
        for _ in range(10):
            try:
                session.run(block)
                done.append(1)
            except BusyError:
                pass

    threads = [threading.Thread(target=feed) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = leaky_reference().session()
    for _ in done:
        alone.run(block)
    assert bytes(session.snapshot()) == bytes(alone.snapshot())
