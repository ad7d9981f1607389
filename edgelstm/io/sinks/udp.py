"""`udp://host:port`: a JSON datagram for each prediction and event."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.records import event_record, records, to_json


def open_sink(address: Address, context: SinkContext) -> UdpSink:
    """The sink of an address.

    Raises:
        OutputError: no host or port is named.
    """
    return UdpSink(address, context)


class UdpSink(Destination):
    """Sends datagrams, and never waits; what the system does not take is counted.

    Args:
        address: `udp://host:port`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        del context
        options = Options(address)
        self.name = address.shown
        self._ttl = options.integer("ttl", 1, low=0, high=255)
        options.finish()
        if not address.host or address.port is None:
            raise OutputError(f"{address.text}: name host and port, as in udp://127.0.0.1:9001")
        self._host, self._port = address.host, address.port
        self._socket: socket.socket | None = None
        self._place: Any = None
        self._lost: Counter[str] = Counter()

    @property
    def lost(self) -> Mapping[str, int]:
        """Datagrams that were not sent."""
        return self._lost

    async def open(self) -> None:
        """Find the host.

        Raises:
            OutputError: there is none of this name.
        """
        try:
            infos = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except OSError as exc:
            raise OutputError(f"{self.name}: {exc}") from exc
        family, kind, protocol, _, self._place = infos[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        if family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._ttl)

    def write(self, predictions: Predictions) -> int:
        """Send rows."""
        for record in records(predictions):
            self._send(record)
        return -1

    def tell(self, event: Event) -> None:
        """Send an event."""
        self._send(event_record(event))

    async def close(self) -> None:
        """End."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, record: Mapping[str, Any]) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(to_json(record).encode(), self._place)
        except OSError as exc:
            self._lost[exc.strerror or str(exc)] += 1
