"""`fhir:https://server/fhir`: Observations to a FHIR R4 server, in batches over HTTP."""

from __future__ import annotations

import asyncio
import http.client as http_client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.fhir_observations import Observations
from edgelstm.io.sinks.outbox import Outbox
from edgelstm.io.sinks.records import to_json
from edgelstm.io.sources.reading import Backoff

_ANSWER_S = 10.0
_MOST_TOGETHER = 50
_MOST_ANSWER_BYTES = 16 << 20
_LAST_WAIT_S = 5.0
_TOO_MANY = "observations while the server was away"
_PASSES = (408, 425, 429)
"""With 5xx, what a server says that will take the same later."""

_JSON = "application/fhir+json"


class FhirServer(Destination):
    """Puts each Observation under its own id, so that what is sent twice is there once.

    Nobody waits for a server: what it misses is counted. Observations go as Bundles of type
    `batch`: one that the server refuses holds up no other.

    Args:
        address: `fhir:https://server/base?token_file=FILE`.
        context: of the run.

    Raises:
        OutputError: the address is none of a server.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self._observations = Observations(options, context)
        self._token = options.secret("token")
        authority = options.text("ca", None)
        options.finish()
        self._base = address.path.rstrip("/")
        place = urlsplit(self._base)
        if not place.hostname or place.username is not None:
            raise OutputError(
                f"fhir:{place.scheme}://{place.hostname or ''}...: name the server alone, as in "
                "fhir:https://example.org/fhir, and a token by token_file= or token_env="
            )
        self.name = address.shown
        try:
            context_of = ssl.create_default_context(cafile=authority)
        except OSError as exc:
            raise OutputError(f"{self.name}: ca={authority}: {exc}") from exc
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context_of), _NoRedirect
        )
        self._outbox: Outbox[Mapping[str, Any]] = Outbox(_TOO_MANY, _LAST_WAIT_S)

    @property
    def lost(self) -> Mapping[str, int]:
        """Observations that the server did not get, or did not take."""
        return self._outbox.lost

    @property
    def trouble(self) -> str:
        """Why the server gets nothing just now."""
        return self._outbox.trouble

    async def open(self) -> None:
        """See what the server is; one that does not answer yet is waited for.

        Raises:
            OutputError: it answers, and is no server of FHIR R4 that lets this program in.
        """
        try:
            status, body = await asyncio.to_thread(self._send, "GET", "/metadata", None)
        except OSError:
            status, body = 503, {}
        if 200 <= status < 300 and not str(body.get("fhirVersion", "")).startswith("4."):
            found = body.get("fhirVersion") or f"no FHIR, but {body.get('resourceType', 'nothing')}"
            raise OutputError(f"{self.name}: the server speaks {found}, expected FHIR 4")
        if status >= 300 and not _passes(status):
            raise OutputError(f"{self.name}/metadata: the server answers {status}{_why(body)}")
        self._outbox.start(self._deliver)

    def write(self, predictions: Predictions) -> int:
        """Take rows."""
        for observation in self._observations.of_rows(predictions):
            self._outbox.put(observation)
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        self._outbox.put(self._observations.of_event(event))

    async def close(self) -> None:
        """Send what waits, as far as the server is there."""
        for observation in self._observations.rest():
            self._outbox.put(observation)
        await self._outbox.close()

    async def _deliver(self) -> None:
        backoff, outbox = Backoff(), self._outbox
        while together := await outbox.oldest(_MOST_TOGETHER):
            observations = list(together.values())
            reason = ""
            try:
                status, body = await asyncio.to_thread(
                    self._send, "POST", "", _bundle(observations)
                )
            except OSError as exc:
                status, body, reason = 503, {}, str(exc)
            found = _statuses(status, body, len(together))
            for number, one in zip(together, found, strict=True):
                if not _passes(one):
                    outbox.done(number, f"the server answered {one}" if one >= 300 else "")
            if again := next(filter(_passes, found), None):
                # These stay, and go again.
                outbox.trouble = reason or f"the server answers {again}{_why(body)}"
                await asyncio.sleep(backoff.next())
            else:
                outbox.trouble = ""
                backoff.reset()

    def _send(self, method: str, path: str, content: Any) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON of the answer; in a thread.

        Raises:
            OSError: there is no answer.
        """
        data = None if content is None else to_json(content).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Accept", _JSON)
        if data is not None:
            request.add_header("Content-Type", _JSON)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=_ANSWER_S) as answer:
                return answer.status, _json_of(answer.read(_MOST_ANSWER_BYTES))
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, _json_of(exc.read(_MOST_ANSWER_BYTES))
        except (ValueError, http_client.HTTPException) as exc:
            raise OSError(str(exc)) from exc


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token and somebody's data go to the server that was named, and to no other."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _bundle(observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {
                "fullUrl": f"urn:uuid:{observation['id']}",
                "resource": observation,
                "request": {"method": "PUT", "url": f"Observation/{observation['id']}"},
            }
            for observation in observations
        ],
    }


def _statuses(status: int, body: Mapping[str, Any], count: int) -> list[int]:
    """What became of each Observation; what an answer does not say went as the whole did."""
    entries = body.get("entry")
    if status >= 300 or not isinstance(entries, list) or len(entries) != count:
        return [status] * count
    found = []
    for entry in entries:
        try:
            found.append(int(str(entry["response"]["status"])[:3]))
        except (KeyError, TypeError, ValueError):
            found.append(status)
    return found


def _passes(status: int) -> bool:
    return status >= 500 or status in _PASSES


def _json_of(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _why(body: Mapping[str, Any]) -> str:
    """What an OperationOutcome says of itself."""
    try:
        issue = body["issue"][0]
        return f" ({issue.get('diagnostics') or issue['details']['text']})"
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""
