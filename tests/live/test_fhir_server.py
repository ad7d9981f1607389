"""Observations over HTTP to a server that is there, away, busy, picky or none at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import OutputError
from edgelstm.io.sinks import fhir_server, outbox
from edgelstm.io.toml_settings import read_settings
from tests.live.harness import Live, csv_lines, free_port, samples, wait_until
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference

R4 = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
Answer = tuple[int, dict[str, Any]]


class Server:
    """A server that keeps what it is sent, and answers as a test has it.

    Args:
        answer: to a bundle; None: all are taken.
        metadata: status and body of that request.
        port: 0 for one that is free.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Answer] | None = None,
        metadata: Answer = (200, R4),
        port: int = 0,
    ) -> None:
        self.bundles: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(*metadata)

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/fhir+json"
                outer.tokens.add(self.headers["Authorization"])
                bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bundles.append(bundle)
                self._say(*(answer or taken)(bundle))

            def _say(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", body["to"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def observations(self) -> list[dict[str, Any]]:
        """All that came, as often as they came."""
        return [entry["resource"] for bundle in self.bundles for entry in bundle["entry"]]

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def taken(bundle: dict[str, Any]) -> Answer:
    """Every entry is created."""
    entries = [{"response": {"status": "201 Created"}} for _ in bundle["entry"]]
    return 200, {"resourceType": "Bundle", "type": "batch-response", "entry": entries}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Makes servers that end with the test."""
    made: list[Server] = []

    def make(*arguments: Any, **options: Any) -> Server:
        made.append(Server(*arguments, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


def replay(folder: Path, sink: str, count: int = 500) -> Live:
    path = folder / "walk.csv"
    path.write_bytes(b"x[0],x[1]\n" + csv_lines(samples(count)))
    with Live(leaky_reference(), [f"file:{path}"], [sink], rate_hz=100.0) as live:
        live.finish()
    return live


def lost(live: Live) -> dict[str, int]:
    assert live.run.pump is not None
    (sink,) = [sink for sink in live.run.pump.sinks if sink.name.startswith("fhir:")]
    return dict(sink.lost)


def test_observations_arrive_as_valid_bundles(serve: Callable[..., Server], tmp_path: Path) -> None:
    """By fhir.resources; all values, each under its id, with the token out of a file."""
    bundle = pytest.importorskip("fhir.resources.R4B.bundle").Bundle
    server = serve()
    (tmp_path / "token").write_text("s3cret\n")
    live = replay(tmp_path, f"fhir:{server.url}?patient=P-017&token_file={tmp_path}/token")
    for document in server.bundles:
        bundle.model_validate(document)
        for entry in document["entry"]:
            assert entry["request"]["url"] == f"Observation/{entry['resource']['id']}"
    assert server.tokens == {"Bearer s3cret"}
    assert not lost(live)
    data = [
        component["valueSampledData"]["data"].split()
        for observation in server.observations
        for component in observation.get("component", ())
        if component["code"]["text"] == "y[0]"
    ]
    values = np.array([value for part in data for value in part], np.float64)
    np.testing.assert_allclose(values, leaky_expected(samples(500))[:, 0], rtol=1e-6)


def test_what_a_server_refuses_holds_up_no_other(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    """It is counted by the server's answer."""

    def picky(bundle: dict[str, Any]) -> Answer:
        status, body = taken(bundle)
        body["entry"][0]["response"]["status"] = "422 Unprocessable Entity"
        return status, body

    server = serve(picky)
    live = replay(tmp_path, f"fhir:{server.url}?every=1s")
    assert lost(live) == {"the server answered 422": len(server.bundles)}
    ids = [observation["id"] for observation in server.observations]
    assert len(set(ids)) == len(ids)


def test_a_busy_server_gets_the_same_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    """The whole bundle, or what it had no time for; under the same ids."""
    answers: list[int] = []

    def busy(bundle: dict[str, Any]) -> Answer:
        answers.append(len(bundle["entry"]))
        if len(answers) == 1:
            return 503, {}
        status, body = taken(bundle)
        if len(answers) == 2:
            body["entry"][-1]["response"]["status"] = "429 Too Many Requests"
        return status, body

    server = serve(busy)
    live = replay(tmp_path, f"fhir:{server.url}")
    assert not lost(live)
    assert len(answers) >= 3
    first, second, third = ([e["resource"]["id"] for e in b["entry"]] for b in server.bundles[:3])
    assert second[: len(first)] == first
    assert third[0] == second[-1]


def test_a_server_that_comes_later_gets_all(serve: Callable[..., Server], tmp_path: Path) -> None:
    """While it is away Observations wait; the run does not."""
    port = free_port()
    sink = f"fhir:http://127.0.0.1:{port}/fhir?every=100ms"
    path = tmp_path / "walk.csv"
    path.write_bytes(b"x[0],x[1]\n" + csv_lines(samples(200)))
    source = f"file:{path}?realtime=yes"
    with Live(leaky_reference(), [source], [sink], rate_hz=100.0) as live:
        live.wait_for(50)
        server = serve(port=port)
        wait_until(lambda: len(server.observations) > 5)
        live.finish()
    assert not lost(live)
    stretches = [each for each in server.observations if "component" in each]
    assert len({each["id"] for each in stretches}) >= 15


def test_a_server_that_stays_away_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And ends no run; of what waits for it, the oldest give way."""
    monkeypatch.setattr(outbox, "MOST_WAITING", 1)
    monkeypatch.setattr(fhir_server, "_LAST_WAIT_S", 0.1)
    live = replay(tmp_path, f"fhir:http://127.0.0.1:{free_port()}/fhir?every=10ms")
    assert lost(live)["observations while the server was away"] >= 2
    assert live.run.pump is not None
    (sink,) = (sink for sink in live.run.pump.sinks if isinstance(sink, fhir_server.FhirServer))
    assert "refused" in sink.trouble


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ((401, {"issue": [{"diagnostics": "who are you?"}]}), r"answers 401 \(who are you\?\)"),
        ((404, {}), "answers 404"),
        ((302, {"to": "http://127.0.0.1:1/"}), "answers 302"),
        ((200, {"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"}), "speaks 3.0.2"),
        ((200, {"hello": 1}), "speaks no FHIR"),
    ],
)
def test_what_is_no_server_of_r4_is_said_at_once(
    metadata: Answer, message: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """Before anything is predicted."""
    server = serve(metadata=metadata)
    with pytest.raises(OutputError, match=message):
        replay(tmp_path, f"fhir:{server.url}")
    assert not server.bundles


def test_a_redirection_is_not_followed(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Somebody's data and a token go to the server that was named, and to no other."""
    other = serve()
    server = serve(lambda bundle: (307, {"to": other.url}))
    live = replay(tmp_path, f"fhir:{server.url}", 50)
    assert not other.bundles
    assert set(lost(live)) == {"the server answered 307"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("fhir:https://user:pw@h/fhir", "name the server alone.*token_file="),
        ("fhir:https:///fhir", "name the server alone"),
        ("fhir:https://h/fhir?ca=/none", "ca=/none"),
        ("fhir:", "name a file or a server"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str, message: str) -> None:
    """By name, and without the password."""
    with pytest.raises(OutputError, match=message) as caught:
        replay(tmp_path, address)
    assert "pw" not in str(caught.value)


def test_a_file_of_settings_may_name_one(tmp_path: Path) -> None:
    """It is no path relative to the file's folder."""
    path = tmp_path / "ward.toml"
    path.write_text('outputs = ["fhir:https://h/fhir?patient=P", "fhir:out.ndjson?every=2s"]\n')
    assert read_settings(path).outputs == (
        "fhir:https://h/fhir?patient=P",
        f"fhir:{tmp_path}/out.ndjson?every=2s",
    )
