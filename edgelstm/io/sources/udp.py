"""`udp://host:port`: datagrams with one or several samples each; a multicast group is joined."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncGenerator

from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.inlet import QUEUE_FULL
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.sources.echo import echo_period
from edgelstm.io.sources.reading import Format, Sensor, source_name

_QUEUE = 4096


def open_source(address: Address, context: SourceContext) -> UdpSource:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
    """
    return UdpSource(address, context)


class UdpSource(Sensor, asyncio.DatagramProtocol):
    """Samples in datagrams.

    Args:
        address: `udp://host:port` to listen at; without a host, on all interfaces.
        context: of the run.
    """

    def __init__(self, address: Address, context: SourceContext) -> None:
        options = Options(address)
        self._address = address
        self.name = source_name(options, address)
        self._interface = options.text("interface", "0.0.0.0")
        self._from = options.text("from", None)
        echo_s = echo_period(address, options, context, has_messages=True)
        self.has_echo = echo_s is not None
        self._reader = Format(options, context, echo_s=echo_s).reader()
        self._sender: tuple[str, int] | None = None
        options.finish()
        self._arrived: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue(_QUEUE)
        self._refused: Counter[str] = Counter()
        if address.port is None:
            raise RecordingError(f"{address.text}: name the port, as in udp://:9000")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One came."""
        if self._from is not None and addr[0] != self._from:
            self._refused["from somebody else"] += 1
            return
        self._sender = addr
        if self._arrived.full():
            # A datagram cannot wait: the oldest one gives way.
            self._arrived.get_nowait()
            self._refused[QUEUE_FULL] += 1
        self._arrived.put_nowait((data, time.monotonic()))

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket())
        except OSError as exc:
            raise RecordingError(f"cannot listen at {self._address.shown}: {exc}") from exc

        async def write(question: bytes) -> None:
            """To who sent the last samples."""
            if self._sender is not None:
                transport.sendto(question, self._sender)

        try:
            async with self._reader.echo.asking(write):
                while True:
                    data, now = await self._arrived.get()
                    if self._refused:
                        yield Delivery("", None, refused=Counter(self._refused))
                        self._refused.clear()
                    yield self._reader.message(data, now)
        finally:
            transport.close()

    def _socket(self) -> socket.socket:
        host, port = self._address.host, self._address.port
        infos = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = infos[0]
        receiver = socket.socket(family, kind, protocol)
        try:
            receiver.setblocking(False)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            if _is_multicast(str(place[0])):
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                receiver.bind(place)
                _join(receiver, family, str(place[0]), self._interface)
            else:
                receiver.bind(place)
        except BaseException:
            receiver.close()
            raise
        return receiver


def _is_multicast(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_multicast


def _join(receiver: socket.socket, family: int, group: str, interface: str) -> None:
    if family == socket.AF_INET6:
        request = socket.inet_pton(family, group.partition("%")[0]) + struct.pack("@I", 0)
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        return
    request = socket.inet_aton(group) + socket.inet_aton(interface)
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
