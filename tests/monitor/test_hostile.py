"""Visitors who mean harm: nothing changes, nothing crashes, and others are served."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import connect

from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import entries, verify
from edgelstm.monitor.history import History
from edgelstm.monitor.server import serve
from tests.monitor.served import Served

VIEW, ANNOTATE = "v" * 20, "a" * 20
HOSTILE = '<img src=x onerror=alert(1)>"&'


@pytest.fixture(scope="module")
def served(
    demo: tuple[Path, Path, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A monitor with tokens, of a patient whose name is markup."""
    artifact, decoding, recordings = demo
    store = tmp_path_factory.mktemp("hostile") / "ward.db"
    one = {HOSTILE: recordings["DEMO-recovering"]}
    tokens = {VIEW: "view", ANNOTATE: "annotate"}
    before, serve.SLOW_S = serve.SLOW_S, 0.3
    with Served(artifact, one, store, decoding, tokens) as found:
        yield found
    serve.SLOW_S = before


@pytest.fixture
def store(served: Served) -> Path:
    """Its store."""
    return served.monitor.options.store


def ask(
    served: Served, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """One request, with headers by name with underscores."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)) as line:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body, named)
        answer = line.getresponse()
        return answer.status, answer.read(), answer.headers


def post(served: Served, path: str, body: Any, **headers: str) -> tuple[int, bytes, Any]:
    """A request as our own page makes it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"content_type": "application/json", "origin": served.url, **headers}
    return ask(served, "POST", path, data, **own)


@pytest.fixture(scope="module")
def cookies(served: Served) -> dict[str, str]:
    """A session for each role."""
    found = {}
    for role, token in (("view", VIEW), ("annotate", ANNOTATE)):
        status, _, headers = post(served, "/api/login", {"token": token})
        assert status == 200
        said = headers["set-cookie"]
        assert "HttpOnly" in said
        assert "SameSite=strict" in said
        found[role] = said.partition(";")[0]
    return found


@pytest.fixture
def stream() -> str:
    """The only one."""
    return f"stream of {HOSTILE}"


def notes(store: Path) -> list[str]:
    with closing(open_store(store)) as connection:
        return [text for _, text, _ in History(connection).notes_of(HOSTILE)]


def test_every_answer_binds_the_browser(served: Served) -> None:
    """A policy without inline code or other origins, no frames, no guessing of types."""
    for path in ("/", "/static/main.js", "/nowhere", "/api/role"):
        _, _, headers = ask(served, "GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/history", "/history?patient=x", "/export?patient=x"])
@pytest.mark.parametrize("cookie", ["", "edgelstm_session=forged", "edgelstm_session=" + "A" * 43])
def test_pages_of_patients_want_a_session(served: Served, path: str, cookie: str) -> None:
    """None, a forged one, one of the right length."""
    assert ask(served, "GET", path, cookie=cookie)[0] == 401


def test_forged_tokens_are_refused_and_guessing_is_slow(
    served: Served, cookies: dict[str, str]
) -> None:
    """After some attempts an address waits; sessions that are there go on."""
    found = [post(served, "/api/login", {"token": f"{k}" * 20})[0] for k in range(8)]
    assert found[0] == 401
    assert found[-1] == 429
    assert ask(served, "GET", "/history", cookie=cookies["view"])[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server/app.py",
        "/static/%2e%2e/server/app.py",
        "/static/..%2f..%2f..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "/static/%00",
        "/static/vendor/..\\..\\app.py",
    ],
)
def test_paths_lead_nowhere_else(served: Served, path: str) -> None:
    """Only the page's own files are served."""
    status, body, _ = ask(served, "GET", path)
    assert status in (400, 404)
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{" + b" " * 20_000 + b"}", 413),
        (b"\xff\xfe{}", 400),
        (b'{"action": "note", "text": "\xc3\x28"}', 400),
        (b"[" * 15_000, 400),
        (b"[1]", 400),
        (b'{"action": "note", "text": 5}', 400),
        (b'{"action": ["note"]}', 400),
        (b"", 400),
    ],
)
def test_bodies_that_are_no_command_change_nothing(
    served: Served, cookies: dict[str, str], store: Path, body: bytes, status: int
) -> None:
    """Giant, bad UTF-8, nested without end, of other types."""
    before = notes(store)
    assert post(served, "/api/act", body, cookie=cookies["annotate"])[0] == status
    assert notes(store) == before


def test_giant_texts_and_unknown_sides_are_refused(
    served: Served, cookies: dict[str, str], stream: str
) -> None:
    """By name, with the limit."""
    command = {"action": "note", "stream": stream, "text": "x" * 3000}
    status, said, _ = post(served, "/api/act", command, cookie=cookies["annotate"])
    assert (status, said) == (400, b"text has more than 2000 characters")
    command = {"action": "start", "stream": stream, "side": "upper"}
    assert post(served, "/api/act", command, cookie=cookies["annotate"])[0] == 400


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "https://127.0.0.1"])
def test_other_pages_cannot_write(
    served: Served, cookies: dict[str, str], stream: str, store: Path, origin: str
) -> None:
    """Even with a session, which a browser might send along."""
    command = {"action": "note", "stream": stream, "text": "from elsewhere"}
    found = post(served, "/api/act", command, origin=origin, cookie=cookies["annotate"])
    assert found[0] == 403
    assert "from elsewhere" not in notes(store)


def test_a_viewer_cannot_write(served: Served, cookies: dict[str, str], stream: str) -> None:
    """Its role is to look."""
    command = {"action": "note", "stream": stream, "text": "a viewer's"}
    assert post(served, "/api/act", command, cookie=cookies["view"])[0] == 403
    assert post(served, "/api/act", command)[0] == 401


@pytest.mark.parametrize(
    ("origin", "has_session"), [("http://evil.example", True), (None, True), ("own", False)]
)
def test_other_pages_cannot_listen(
    served: Served, cookies: dict[str, str], origin: str | None, has_session: bool
) -> None:
    """A websocket from another origin, or without a session, is closed before anything is said."""
    address = served.url.replace("http", "ws") + "/live"
    chosen: Any = served.url if origin == "own" else origin
    headers = {"Cookie": cookies["view"]} if has_session else {}
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(address, origin=chosen, additional_headers=headers)
    assert caught.value.response.status_code == 403


def test_a_browser_that_talks_is_given_up_and_others_go_on(
    served: Served, cookies: dict[str, str]
) -> None:
    """A giant message and bad UTF-8 end that connection alone."""
    address = served.url.replace("http", "ws") + "/live"
    own: Any = served.url
    headers = {"Cookie": cookies["view"]}
    with connect(address, origin=own, additional_headers=headers) as other:
        for message in ("x" * 100_000, b"\xff\xfe", "hello"):
            with connect(address, origin=own, additional_headers=headers) as bad:
                bad.send(message)
                # Ends when the server closes it.
                with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                    while True:
                        bad.recv(timeout=10)
        hello = json.loads(other.recv(timeout=10))
        assert hello["type"] == "hello"
        assert isinstance(other.recv(timeout=10), (str, bytes))


def test_names_and_notes_that_are_markup_stay_text(
    served: Served, cookies: dict[str, str], stream: str, store: Path
) -> None:
    """On the page of the history, in its list, and in what is stored."""
    command = {"action": "note", "stream": stream, "text": HOSTILE}
    assert post(served, "/api/act", command, cookie=cookies["annotate"])[0] == 200
    end = time.monotonic() + 10
    while HOSTILE not in notes(store):
        assert time.monotonic() < end
        time.sleep(0.05)
    where = "/history?patient=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%26"
    for path in ("/history", where):
        status, page, _ = ask(served, "GET", path, cookie=cookies["view"])
        assert status == 200
        assert b"<img" not in page
        assert b"&lt;img" in page


def test_a_client_that_never_says_what_it_wants_is_cut_off(served: Served) -> None:
    """Slow loris: half a head, a byte now and then."""
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=10)) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        end = time.monotonic() + 10
        is_cut_off = False
        while not is_cut_off:
            assert time.monotonic() < end
            time.sleep(0.05)
            try:
                line.sendall(b"X")
            except OSError:
                is_cut_off = True
    assert ask(served, "GET", "/")[0] == 200


def test_what_was_done_and_tried_stands_in_a_whole_log(
    served: Served, cookies: dict[str, str], stream: str, store: Path
) -> None:
    """Logins, failures and notes, without a pseudonym."""
    command = {"action": "note", "stream": stream, "text": "for the log"}
    assert post(served, "/api/act", command, cookie=cookies["annotate"])[0] == 200
    post(served, "/api/login", {"token": "wrong"})
    with closing(open_store(store)) as connection:
        found = list(entries(connection))
        verify(connection)
    assert {"logged in", "failed to log in", "wrote note"} <= {each.action for each in found}
    assert all(HOSTILE not in f"{each.subject}{each.detail}" for each in found)


def test_a_name_that_was_made_to_point_here_is_refused(
    demo: tuple[Path, Path, dict[str, Path]], tmp_path: Path
) -> None:
    """Without tokens a page of another name could read everything (DNS rebinding)."""
    artifact, _, recordings = demo
    one = {"P1": recordings["DEMO-recovering"]}
    with Served(artifact, one, tmp_path / "ward.db") as served:
        assert ask(served, "GET", "/")[0] == 200
        assert ask(served, "GET", "/", host="evil.example")[0] == 421
        assert ask(served, "GET", "/history", host=f"localhost:{served.port}")[0] == 200
