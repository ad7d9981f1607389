"""`fhir:out.ndjson` or `fhir:https://server/fhir`: Observations of FHIR R4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options, is_url
from edgelstm.io.live import LiveSink, SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.fhir_observations import Observations
from edgelstm.io.sinks.fhir_server import FhirServer
from edgelstm.io.sinks.pending_bytes import PendingBytes, open_lines
from edgelstm.io.sinks.records import to_json


def open_sink(address: Address, context: SinkContext) -> LiveSink:
    """The sink of an address.

    Raises:
        OutputError: no file and no server is named.
    """
    return (FhirServer if is_url(address.path) else FhirFile)(address, context)


class FhirFile(Destination):
    """Observations in a file, a JSON document a line (bulk data).

    Args:
        address: `fhir:FILE.ndjson`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self._observations = Observations(options, context)
        options.finish()
        self.name = address.shown
        self._path = address.path
        self._appends = context.appends
        self._pending: PendingBytes | None = None
        if not self._path:
            raise OutputError(
                f"{address.text}: name a file or a server, as in fhir:observations.ndjson or "
                "fhir:https://example.org/fhir"
            )

    @property
    def waiting(self) -> int:
        """Rows, or as good as."""
        return 0 if self._pending is None else self._pending.waiting

    @property
    def trouble(self) -> str:
        """Why nothing is written just now."""
        return "" if self._pending is None else self._pending.trouble

    async def open(self) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be.
        """
        self._pending = open_lines(self._path, self.name, is_new=not self._appends)

    def write(self, predictions: Predictions) -> int:
        """Take rows; a stretch is written when it is long enough."""
        self._put(self._observations.of_rows(predictions))
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        self._put([self._observations.of_event(event)])

    def poll(self) -> None:
        """Write what had no room before."""
        if self._pending is not None:
            self._pending.push()

    async def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: there is no room for it.
        """
        if self._pending is not None:
            self._put(self._observations.rest())
            pending, self._pending = self._pending, None
            await pending.close()

    def _put(self, observations: Iterable[Mapping[str, Any]]) -> None:
        assert self._pending is not None
        for observation in observations:
            self._pending.add((to_json(observation) + "\n").encode())
