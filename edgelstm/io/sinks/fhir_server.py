"""`fhir:https://server/fhir`: Observations to a FHIR R4 server, in batches over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client as http_client
import json
import ssl
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.fhir_observations import Observations
from edgelstm.io.sinks.records import to_json
from edgelstm.io.sources.reading import Backoff

_ANSWER_S = 10.0
_MOST_WAITING = 10_000
_MOST_TOGETHER = 50
_MOST_ANSWER_BYTES = 16 << 20
_LAST_WAIT_S = 5.0
_TOO_MANY = "observations while the server was away"
_PASSES = (408, 425, 429)
"""With 5xx, what a server says that will take the same later."""

_JSON = "application/fhir+json"


class FhirServer:
    """Puts each Observation under its own id, so that what is sent twice is there once.

    Observations go as Bundles of type `batch`: one that the server refuses holds up no other.

    Args:
        address: `fhir:https://server/base?token_file=FILE`.
        context: of the run.

    Raises:
        OutputError: the address is none of a server.
    """

    waiting = 0
    """Nobody waits for a server: what it misses is counted."""

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
        self._queue: deque[Mapping[str, Any]] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_ending = False
        self._lost: Counter[str] = Counter()

    @property
    def lost(self) -> Mapping[str, int]:
        """Observations that the server did not get, or did not take."""
        return self._lost

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
        self._task = asyncio.create_task(self._deliver())

    def write(self, predictions: Predictions) -> int:
        """Take rows."""
        for observation in self._observations.of_rows(predictions):
            self._put(observation)
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        self._put(self._observations.of_event(event))

    def poll(self) -> None:
        """Nothing is due."""

    async def close(self) -> None:
        """Send what waits, as far as the server is there."""
        task = self._task
        if task is None:
            return
        for observation in self._observations.rest():
            self._put(observation)
        self._is_ending = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), _LAST_WAIT_S)
        if self._queue:
            self._lost[_TOO_MANY] += len(self._queue)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _put(self, observation: Mapping[str, Any]) -> None:
        if len(self._queue) >= _MOST_WAITING:
            self._queue.popleft()
            self._lost[_TOO_MANY] += 1
        self._queue.append(observation)
        self._news.set()

    async def _deliver(self) -> None:
        backoff = Backoff()
        while not (self._is_ending and not self._queue):
            if not self._queue:
                self._news.clear()
                await self._news.wait()
                continue
            together = [self._queue[k] for k in range(min(len(self._queue), _MOST_TOGETHER))]
            try:
                status, body = await asyncio.to_thread(self._send, "POST", "", _bundle(together))
            except OSError:
                status, body = 503, {}
            found = _statuses(status, body, len(together))
            for observation, one in zip(together, found, strict=True):
                if _passes(one):
                    continue  # it stays, and goes again
                if one >= 300:
                    self._lost[f"the server answered {one}"] += 1
                with contextlib.suppress(ValueError):
                    self._queue.remove(observation)  # not there: there was no room for it
            if any(map(_passes, found)):
                await asyncio.sleep(backoff.next())
            else:
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
