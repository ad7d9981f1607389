"""The host's side of the conversation with an agent."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

from edgelstm.errors import LinkError, TargetUnavailableError
from edgelstm.remote.frames import (
    VERSION,
    DamagedFrameError,
    Fault,
    Frame,
    Info,
    Kind,
    decode_info,
    decode_result,
    encode,
    read_frame,
)
from edgelstm.remote.link import Link

_GREETING_S = 1.0
"""Until the next greeting: a board that resets when its port is opened misses the first."""


class Device:
    """A device with an agent.

    Args:
        link: the connection; closed with the device.
        timeout_s: longest time without an answer.
        name: for messages.
    """

    def __init__(self, link: Link, timeout_s: float, name: str) -> None:
        self._link, self._timeout_s, self._name = link, timeout_s, name
        self._arrived = bytearray()
        self._deadline = 0.0
        self._serial = 0
        self._ticks_hz = 0

    def __enter__(self) -> Device:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say goodbye, so that the agent ends, and close the connection."""
        try:
            if error is None:
                self._say_goodbye()
        finally:
            self._link.close()

    def _say_goodbye(self) -> None:
        """Wait a moment for the answer: what is still on its way would be lost with the line."""
        serial = self._next_serial()
        self._deadline = time.monotonic() + _GREETING_S
        with contextlib.suppress(LinkError, _SilenceError):
            self._link.send(encode(Kind.BYE, serial))
            self._answer(serial)

    def greet(self) -> Info:
        """Who is there; what stands in the line from before is passed over.

        Raises:
            LinkError: nobody answers in time.
            TargetUnavailableError: the agent speaks another version.
        """
        end = time.monotonic() + self._timeout_s
        while True:
            serial = self._next_serial()
            self._link.send(encode(Kind.HELLO, serial, bytes([VERSION])))
            self._deadline = min(end, time.monotonic() + _GREETING_S)
            try:
                frame = self._answer(serial)
                if frame.kind == Kind.INFO or time.monotonic() >= end:
                    return self._introduced(self._expect(frame, Kind.INFO))
            except DamagedFrameError:
                if time.monotonic() >= end:
                    raise
            except _SilenceError as error:
                if time.monotonic() >= end:
                    raise LinkError(
                        f"no agent answers on {self._name} within {self._timeout_s:g} s: is it "
                        "running, and is it the right port and speed? (--timeout S waits longer)"
                    ) from error

    def load(self, artifact: bytes) -> Info:
        """Send an artifact to an agent that takes them.

        Raises:
            TargetUnavailableError: the device cannot run it; says why.
        """
        return self._introduced(self._ask(Kind.LOAD, Kind.INFO, artifact))

    def reset(self) -> None:
        """Begin a new stream."""
        self._ask(Kind.RESET, Kind.DONE)

    def step(self, block: bytes) -> tuple[bytes, float | None]:
        """One step: the output block, and the seconds it took by the device's own clock.

        Raises:
            TargetUnavailableError: the device refused the input.
        """
        payload = self._ask(Kind.STEP, Kind.RESULT, block)
        code, ticks, output = decode_result(payload)
        if code:
            raise TargetUnavailableError(f"the step on {self._name} returned {code}")
        return output, ticks / self._ticks_hz if self._ticks_hz else None

    def _introduced(self, payload: bytes) -> Info:
        info = decode_info(payload)
        if info.version != VERSION:
            raise TargetUnavailableError(
                f"the agent on {self._name} speaks version {info.version} of the protocol, this "
                f"edgelstm speaks {VERSION}: use the same edgelstm on both sides"
            )
        self._ticks_hz = info.ticks_hz
        return info

    def _ask(self, kind: Kind, wanted: Kind, payload: bytes = b"") -> bytes:
        serial = self._next_serial()
        self._link.send(encode(kind, serial, payload))
        self._deadline = time.monotonic() + self._timeout_s
        try:
            return self._expect(self._answer(serial), wanted)
        except _SilenceError as error:
            raise LinkError(
                f"{self._name} gave no answer for {self._timeout_s:g} s (--timeout S waits longer)"
            ) from error

    def _answer(self, serial: int) -> Frame:
        """The answer to this question; late ones to others are passed over."""
        while True:
            frame = read_frame(self._receive)
            assert frame is not None  # the link raises where it ends
            is_complaint = frame.kind == Kind.ERROR and frame.serial == 0
            if frame.serial == serial or is_complaint:
                return frame

    def _expect(self, frame: Frame, wanted: Kind) -> bytes:
        if frame.kind == wanted:
            return frame.payload
        if frame.kind != Kind.ERROR:
            raise LinkError(f"{self._name} answered with a frame of kind {frame.kind:#x}")
        fault = frame.payload[0] if frame.payload else 0
        text = frame.payload[1:].decode(errors="replace")
        if fault == Fault.GARBLED:
            raise LinkError(
                f"what was sent arrived damaged on {self._name}: check cable, baud rate and flow "
                "control"
            )
        reason = text or {
            Fault.UNKNOWN: "the agent does not know this question",
            Fault.LENGTH: "the input block has another size than its model's",
        }.get(Fault(fault) if fault in set(Fault) else Fault.REFUSED, f"fault {fault}")
        raise TargetUnavailableError(f"{self._name} refused: {reason}")

    def _receive(self, size: int) -> bytes:
        while len(self._arrived) < size:
            left = self._deadline - time.monotonic()
            data = self._link.receive(left) if left > 0 else b""
            if not data:
                raise _SilenceError
            self._arrived += data
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        return taken

    def _next_serial(self) -> int:
        """1 to 255 in turn; 0 is that of complaints about what could not be read."""
        self._serial = self._serial % 255 + 1
        return self._serial


class _SilenceError(Exception):
    """Nothing arrived in time."""
