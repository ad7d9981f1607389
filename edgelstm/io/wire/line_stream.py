"""Cuts a stream of bytes into lines; lines without end are never held in memory."""

from __future__ import annotations

from edgelstm.io.wire.base import CUT_AT_START, CUT_LINE, MAX_LINE_BYTES, TOO_LONG


class LineStream:
    """Lines out of bytes that are cut anywhere.

    Args:
        limit: bytes of a line at most.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._is_skipping = False
        self._is_cut = False

    def begin(self, is_cut: bool) -> None:
        """A connection begins; its first line may be the end of one."""
        self._rest = b""
        self._is_skipping = False
        self._is_cut = is_cut

    def feed(self, data: bytes) -> tuple[list[bytes], dict[int, str]]:
        """Whole lines without their ends, and by index those that are none, with the reason.

        What `CUT_AT_START` names is the first line of a connection: whether all of it is there,
        the reader of the format has to decide.
        """
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        faults: dict[int, str] = {}
        if self._is_skipping and lines:
            self._is_skipping = False
            lines[0] = b""
            faults[0] = TOO_LONG
        if self._is_cut and lines:
            self._is_cut = False
            faults.setdefault(0, CUT_AT_START)
        for i, line in enumerate(lines):
            if len(line) > self._limit:
                lines[i] = b""
                faults[i] = TOO_LONG
        if len(self._rest) > self._limit or self._is_skipping:
            self._is_skipping = True
            self._rest = b""
        return [line.rstrip(b"\r") for line in lines], faults

    def end(self) -> dict[str, int]:
        """A connection ends: what had no end yet is lost."""
        is_pending = bool(self._rest.strip()) or self._is_skipping
        reason = TOO_LONG if self._is_skipping else CUT_LINE
        self.begin(False)
        return {reason: 1} if is_pending else {}
