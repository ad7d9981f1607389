"""One caller at a time: a session refuses a second one instead of mixing two streams."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from edgelstm.errors import BusyError

_TAKERS = frozenset(
    {"step", "run", "call", "reset", "snapshot", "restore", "close", "join", "leave", "finish"}
)
"""Methods that hold a turn while they run."""


class Turn:
    """A token that one call holds while it runs; nobody waits for it.

    `take` and `give` are methods of a list, which no other thread can come between: the cheapest
    token that Python has. `take` raises an IndexError where it is away; `expect_free` then says
    whether somebody has it.

    Args:
        whose: the owner, in words.
    """

    __slots__ = ("_whose", "give", "take")

    def __init__(self, whose: str) -> None:
        free: list[None] = [None]
        self.take: Callable[[], None] = free.pop
        self.give: Callable[[None], None] = free.append
        self._whose = whose

    def __enter__(self) -> None:
        try:
            self.take()
        except IndexError:
            self.expect_free()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give(None)

    def expect_free(self) -> None:
        """Return where nobody is in a call after all: Ctrl-C came just as the token was taken.

        Raises:
            BusyError: another call is running.
        """
        callers = sum(
            1
            for frame in _all_frames()
            if frame.f_code.co_name in _TAKERS
            and getattr(frame.f_locals.get("self"), "_turn", None) is self
        )
        if callers > 1:
            raise BusyError(
                f"{self._whose} is in another call just now, of another thread or from within "
                "itself: one session is one stream and belongs to one thread at a time; open a "
                "session for each with artifact.session(), they share the code and the weights"
            )


def refuse_copy(what: str, state: str) -> NoReturn:
    """Say why something that runs is neither pickled nor copied.

    Raises:
        TypeError: always.
    """
    raise TypeError(
        f"{what} is a running stream with memory and code of this process, and is neither copied "
        f"nor pickled: pickle its artifact and bytes({state}), and restore that in a new session"
    )


def _all_frames() -> Iterator[FrameType]:
    for top in list(sys._current_frames().values()):
        frame: FrameType | None = top
        while frame is not None:
            yield frame
            frame = frame.f_back
