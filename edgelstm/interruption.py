"""Signals that ask a command to end, answered where nothing is lost by it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal asked to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopRequest:
    """While entered, signals to end are noted; they raise only where the work allows it.

    Signals that were ignored before, as `nohup` and shells in the background have it, stay so.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._may_raise = False
        self._previous: dict[int, Any] = {}

    @property
    def is_requested(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    def check(self) -> None:
        """End here if a signal came.

        Raises:
            Interrupted: one did.
        """
        if self._number is not None:
            raise Interrupted(self._number)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Around work that may wait for long and loses nothing: a signal ends it at once.

        Raises:
            Interrupted: a signal came, now or before.
        """
        self._may_raise = True
        try:
            self.check()
            yield
        finally:
            self._may_raise = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._number is None:
            self._number = number
        if self._may_raise:
            self._may_raise = False
            raise Interrupted(self._number)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP unwind like Control-C instead of killing on the spot."""

    def unwind(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(number)

    previous: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS[1:]:
            if signal.getsignal(number) is signal.SIG_DFL:
                previous[number] = signal.signal(number, unwind)
    try:
        yield
    finally:
        for stopped, handler in previous.items():
            signal.signal(stopped, handler)
