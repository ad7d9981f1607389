"""Questions to a sensor that show how its clock stands to this machine's: `echo=1s`.

As in NTP there are four times. This machine writes a line (on MQTT a message, on UDP a datagram)

    #echo 17

and the sensor answers, as soon as it can, with the same number and two times of the clock that
its samples are stamped by, in the same unit: when it had the question, and when it sent the answer

    #echo 17 81230412 81230460

This machine knows the other two. The answer is a line of its own between those of the samples, a
datagram of its own, or on MQTT a message to TOPIC/echo/answer; questions are there at
TOPIC/echo/question. A sensor that stamps by one call of its clock writes that time twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.live import SourceContext

EVERY_S = 1.0
NO_ANSWER = "no answer to an echo question"

_MARK = b"#echo "
_NUMBER = rb"([0-9]{1,20}(?:\.[0-9]{1,9})?)"
_ANSWER = re.compile(rb"#echo ([0-9]{1,10}) " + _NUMBER + rb" " + _NUMBER + rb"\s*")
_MOST_BYTES = 128
_MOST_OPEN = 64


def echo_period(
    address: Address, options: Options, context: SourceContext, *, has_messages: bool
) -> float | None:
    """Seconds between two questions to a sensor; None where none are asked.

    Args:
        address: of the source.
        options: takes `echo`.
        context: of the run.
        has_messages: whether answers are messages, else lines in a stream of bytes.

    Raises:
        RecordingError: nobody needs the answers, or they cannot be told from samples.
    """
    every_s = options.period("echo", EVERY_S)
    if every_s is not None and context.is_alone:
        raise RecordingError(
            f"{address.shown}: echo= aligns the clocks of several sensors of one model, and this "
            "one is alone: leave it out"
        )
    packed = address.options.get("format", "").partition(":")[0] in ("struct", "packed")
    if every_s is not None and packed and not has_messages:
        raise RecordingError(
            f"{address.shown}: answers to echo questions are lines, and cannot be told from packed "
            "samples in one stream of bytes: format=csv or ndjson, or leave echo= out"
        )
    return every_s


class Echo:
    """Asks one sensor, and tells its answers from its samples.

    Args:
        every_s: seconds between two questions; None: none are asked, and nothing is an answer.
    """

    def __init__(self, every_s: float | None = None) -> None:
        self.every_s = every_s
        self._open: dict[int, float] = {}
        self._asked = 0
        self._answers: list[tuple[float, float, float, float]] = []
        self._refused: Counter[str] = Counter()
        self._held = b""
        self._is_inside = False

    @property
    def is_on(self) -> bool:
        """Whether questions are asked at all."""
        return self.every_s is not None

    @asynccontextmanager
    async def asking(self, write: Callable[[bytes], Awaitable[None]]) -> AsyncGenerator[None, None]:
        """While a connection stands, questions go out.

        Args:
            write: sends one question; an `OSError` ends the questions to a connection that breaks.
        """
        self.begin()
        if self.every_s is None:
            yield
            return
        task = asyncio.create_task(self._ask(write, self.every_s))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _ask(self, write: Callable[[bytes], Awaitable[None]], every_s: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                await write(self.question(time.monotonic()))
                await asyncio.sleep(every_s)

    def begin(self) -> None:
        """A connection begins: what was asked over the last one will not be answered."""
        self._open.clear()
        self._held, self._is_inside = b"", False

    def question(self, now: float) -> bytes:
        """The next question, which leaves now."""
        self._asked += 1
        while len(self._open) >= _MOST_OPEN:
            del self._open[next(iter(self._open))]
        self._open[self._asked] = now
        return _MARK + b"%d\n" % self._asked

    def without_answers(self, data: bytes, now: float) -> bytes:
        """Bytes of a stream without the lines that are answers; samples are never held up."""
        if not self.is_on or not (self._held or b"#" in data):
            self._is_inside = self._is_inside if not data else not data.endswith(b"\n")
            return data
        pieces = (self._held + data).split(b"\n")
        self._held = b""
        rest = pieces.pop()
        kept: list[bytes] = []
        for piece in pieces:
            if self._is_inside or not piece.startswith(_MARK):
                kept.append(piece + b"\n")
            else:
                self.answer(piece, now)
            self._is_inside = False
        if not self._is_inside and rest and len(rest) < _MOST_BYTES and _may_be_answer(rest):
            self._held = rest
        elif rest:
            kept.append(rest)
            self._is_inside = True
        return b"".join(kept)

    def answer(self, data: bytes, now: float) -> bool:
        """Whether a line or message is an answer, or wants to be one; it is kept for `trips`."""
        if not self.is_on or not data.startswith(_MARK):
            return False
        found = _ANSWER.fullmatch(data) if len(data) < _MOST_BYTES else None
        sent = None if found is None else self._open.pop(int(found[1]), None)
        if found is None or sent is None:
            self._refused[NO_ANSWER] += 1
        else:
            self._answers.append((sent, float(found[2]), float(found[3]), now))
        return True

    def trips(self, scale: float | None) -> tuple[RoundTrip, ...]:
        """The round trips since the last call.

        Args:
            scale: seconds of the unit of the sensor's stamps; None where it is not known yet.
        """
        answers, self._answers = self._answers, []
        if scale is None:
            return ()
        return tuple(
            RoundTrip(sent, received * scale, replied * scale, returned)
            for sent, received, replied, returned in answers
        )

    def refused(self) -> Counter[str]:
        """What wanted to be an answer and is none, since the last call."""
        refused, self._refused = self._refused, Counter()
        return refused


def _may_be_answer(rest: bytes) -> bool:
    return rest.startswith(_MARK) or _MARK.startswith(rest)
