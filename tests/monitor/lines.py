"""Pages that look on without drawing, many in one process: `python -m tests.monitor.lines URL N`.

They read raw sockets, so that they cost next to nothing beside what is measured.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
from urllib.parse import urlsplit

_BINARY, _PING = 2, 9


class Line:
    """A websocket to the live page, open.

    Args:
        url: of the page.
        room: bytes of the receive buffer; 0 for the system's.
        source: address of this machine to come from; "" for any.
    """

    def __init__(self, url: str, room: int = 0, source: str = "") -> None:
        place = urlsplit(url)
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(30)
        self.socket.connect((place.hostname or "", place.port or 80))
        self.socket.sendall(
            (
                f"GET /live HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: http://{place.netloc}\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            ).encode()
        )
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            part = self.socket.recv(4096)
            if not part:
                break
            self._data += part
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            self.socket.close()
            raise ConnectionRefusedError(head.decode(errors="replace"))
        self.frames = 0
        self.texts = 0

    def read(self) -> bool:
        """Take what has come, and answer pings; false at the end."""
        part = self.socket.recv(1 << 20)
        self._data += part
        data, at = self._data, 0
        while at + 2 <= len(data):
            kind, size, begin = data[at] & 15, data[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[begin : begin + width], "big")
                begin += width
            if begin + size > len(data):
                break
            if kind == _PING:
                # A mask of zeros changes nothing.
                pong = bytes([0x8A, 0x80 | size, 0, 0, 0, 0]) + data[begin : begin + size]
                with contextlib.suppress(OSError):
                    self.socket.sendall(pong)
            self.frames += kind == _BINARY
            self.texts += kind == 1
            at = begin + size
        self._data = data[at:]
        return bool(part)

    def vanish(self) -> None:
        """End without a word, as a tablet does that loses its network: the peer sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


def main(url: str, count: int) -> None:
    """Look on until the server is gone; then print how many messages with samples each saw."""
    lines = [Line(url) for _ in range(count)]
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    is_open = key.data.read()
                except OSError:
                    is_open = False
                if not is_open:
                    selector.unregister(key.fileobj)
    print(*(line.frames for line in lines))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
