"""Lines of text out of bytes: encodings, line ends, and lines that are too long to be any.

Lines are read as bytes and decoded afterwards, so that a bad byte spoils its own line only.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from edgelstm.errors import RecordingError
from edgelstm.io.base import Fault
from edgelstm.io.limits import BLOCK_BYTES, BLOCK_ROWS, MAX_LINE_BYTES

BAD_BYTE = "bad byte"
TOO_LONG = "line too long"

_CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that one's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Decoded lines that follow each other.

    Args:
        first: number of the first, counted from 1.
        texts: without line ends; "" for those with a fault.
        faults: by index, what could not be decoded.
    """

    first: int
    texts: list[str]
    faults: dict[int, Fault] = field(default_factory=dict)


class ByteProgress:
    """How far a source has come that a `LineReader` reads."""

    _reader: LineReader
    _total: int | None

    @property
    def total(self) -> int | None:
        """Bytes to read, where known."""
        return self._total

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._reader.bytes_read if self._total is not None else 0


class LineReader:
    """Reads lines of a recording in blocks, of a live stream one by one.

    Args:
        file: the bytes.
        origin: name of the recording, for messages.
        is_live: never wait for more than the next line.
    """

    def __init__(self, file: IO[bytes], origin: str, is_live: bool) -> None:
        opened: Any = file
        self._bytes = opened if hasattr(opened, "peek") else io.BufferedReader(opened)
        self._origin = origin
        self._is_live = is_live
        self._pending: list[bytes | None] = []
        self._rest = b""
        self._is_skipping = False
        self._at_end = False
        self._number = 1
        self._fallback = "utf-8"
        self._splits_at_cr: bool | None = None
        self._file: Any = _recoded(self._bytes)

    @property
    def bytes_read(self) -> int:
        """How far the file was read."""
        return int(self._bytes.tell())

    def read(self, count: int = BLOCK_ROWS) -> list[bytes | None] | None:
        """The next lines without their ends, None for one that is too long; None at the end."""
        if self._is_live:
            return self._read_live()
        size = 0
        while len(self._pending) < count and size < BLOCK_BYTES and not self._at_end:
            size += self._fill()
        lines, self._pending = self._pending[:count], self._pending[count:]
        return lines or None

    def decode(self, raw: Sequence[bytes | None]) -> Lines:
        """Text of the lines that `read` gave; call it once for each, in order."""
        lines = self.preview(raw)
        self._number += len(raw)
        return lines

    def preview(self, raw: Sequence[bytes | None]) -> Lines:
        """As `decode`; the lines may still be decoded again."""
        if None not in raw:
            joined = b"\n".join(raw)  # type: ignore[arg-type]
            try:
                return Lines(self._number, joined.decode(self._fallback).split("\n"))
            except UnicodeDecodeError:
                pass
        return self._decode_each(raw)

    def use_latin1(self) -> None:
        """Decode as ISO 8859-1 from here on, in which every byte means something."""
        self._fallback = "latin-1"

    def _decode_each(self, raw: Sequence[bytes | None]) -> Lines:
        texts: list[str] = []
        faults: dict[int, Fault] = {}
        for i, line in enumerate(raw):
            where = f"{self._origin}:{self._number + i}"
            text = ""
            if line is None:
                faults[i] = Fault(TOO_LONG, f"{where}: longer than {MAX_LINE_BYTES} bytes")
            else:
                try:
                    text = line.decode(self._fallback)
                except UnicodeDecodeError as exc:
                    faults[i] = Fault(
                        BAD_BYTE,
                        f"{where}: not text in UTF-8: byte 0x{line[exc.start]:02x} at position "
                        f"{exc.start + 1} (another encoding? convert the file to UTF-8)",
                    )
            texts.append(text)
        return Lines(self._number, texts, faults)

    def _read_live(self) -> list[bytes | None] | None:
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return None
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            return [line.rstrip(b"\r\n") if line[-1:] == b"\n" else line.rstrip(b"\r")]
        while line and not line.endswith(b"\n"):
            line = self._file.readline(MAX_LINE_BYTES)
        return [None]

    def _fill(self) -> int:
        """Take another chunk of a file apart; its bytes."""
        try:
            chunk = self._file.read(_CHUNK)
        except OSError as exc:
            raise RecordingError(f"{self._origin}: cannot be read on: {exc.strerror}") from exc
        if not chunk:
            self._at_end = True
            if self._is_skipping:
                self._pending.append(None)
            elif self._rest:
                self._pending.append(self._rest.rstrip(b"\r"))
            self._rest = b""
            return 0
        if self._splits_at_cr is None:
            self._splits_at_cr = b"\r" in chunk and b"\n" not in chunk
        if self._splits_at_cr:
            chunk = chunk.replace(b"\r", b"\n")
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._rest = b"" if self._is_skipping else self._rest + chunk
        else:
            lines: list[bytes | None] = [*(self._rest + head).split(b"\n")]
            if b"\r" in head or self._rest[-1:] == b"\r":
                lines = [line.rstrip(b"\r") if line else line for line in lines]
            if self._is_skipping or len(lines[0] or b"") > MAX_LINE_BYTES:
                lines[0] = None
            self._is_skipping = False
            self._pending += lines
            self._rest = tail
        if len(self._rest) > MAX_LINE_BYTES:
            self._is_skipping, self._rest = True, b""
        return len(chunk)


def _recoded(file: Any) -> Any:
    """The file behind its byte-order mark, as UTF-8."""
    start = file.peek(4)[:4]
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            file.read(len(mark))
            return file if encoding == "utf-8" else io.BufferedReader(_Utf8Of(file, encoding))
    if len(start) == 4:
        zeros = [byte == 0 for byte in start]
        if zeros == [False, True, False, True]:
            return io.BufferedReader(_Utf8Of(file, "utf-16-le"))
        if zeros == [True, False, True, False]:
            return io.BufferedReader(_Utf8Of(file, "utf-16-be"))
    return file


class _Utf8Of(io.RawIOBase):
    """Bytes of another encoding as UTF-8; what is no text becomes U+FFFD, in no number."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._ready = b""
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._at_end:
            data = self._file.read1(1 << 16)
            self._at_end = not data
            text = self._decoder.decode(data, final=self._at_end)
            self._ready = text.encode("utf-8", "replace")
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
