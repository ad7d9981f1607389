"""How a monitor is started and reached: TLS with tokens, a file of settings, automatic trials."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import entries
from edgelstm.monitor.history import History
from edgelstm.monitor.server.app import VENDOR
from tests.monitor.browser import CHROMIUM, opened
from tests.monitor.served import PATIENCE_S, Served
from tests.unit.runtime.command_line import invoke

TOKEN = "annotate-token-of-a-ward"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ward")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    paths = (folder / "ward.pem", folder / "ward.key")
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def act(served: Served, **command: Any) -> None:
    """What the page posts, with nothing to log in."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)) as line:
        headers = {"content-type": "application/json", "origin": served.url}
        line.request("POST", "/api/act", json.dumps(command), headers)
        answer = line.getresponse()
        assert answer.status == 200, answer.read()


@pytest.mark.skipif(CHROMIUM is None, reason="needs the package chromium")
@pytest.mark.skipif(not VENDOR.joinpath("uPlot.iife.min.js").is_file(), reason="needs npm")
def test_a_page_with_tls_and_tokens_is_logged_into(
    demo: tuple[Path, Path, dict[str, Path]], tls: tuple[Path, Path], tmp_path: Path
) -> None:
    """With the given certificate; the cookie goes over TLS only; a wrong token is told so."""
    artifact, decoding, recordings = demo
    one = {"P1": recordings["DEMO-recovering"]}
    tokens = {TOKEN: "annotate"}
    with Served(artifact, one, tmp_path / "ward.db", decoding, tokens, tls=tls) as served:
        assert served.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=tls[0])
        with urllib.request.urlopen(f"{served.url}/api/role", context=trusted) as answer:
            assert json.load(answer) == {"role": "", "needs_token": True}
        with opened(served, is_awaited=False) as browser:
            page = browser.page
            page.locator("#loginBox").wait_for()
            page.fill("#token", "not the token of anybody")
            page.click("#login")
            browser.until(lambda: browser.text("#loginSaid") == "No such token.", "the refusal")
            page.fill("#token", TOKEN)
            page.press("#token", "Enter")
            browser.until(lambda: browser.text("#link") == "live", "the line to the server")
            (cookie,) = page.context.cookies()
            assert cookie["secure"]
            assert cookie["httpOnly"]
            page.click("#marker")
            browser.until(lambda: "marker" in browser.text("#events"), "the marker")
    with closing(open_store(tmp_path / "ward.db")) as connection:
        said = [(entry.actor, entry.action) for entry in entries(connection)]
    assert ("nobody", "failed to log in") in said
    assert ("annotate", "logged in") in said


def test_whole_exercises_become_trials_by_themselves(
    demo: tuple[Path, Path, dict[str, Path]], tmp_path: Path
) -> None:
    """Only while that is switched on; measured like those that a therapist starts."""
    artifact, decoding, recordings = demo
    one = {"P1": recordings["DEMO-recovering"]}
    store = tmp_path / "ward.db"

    def trials() -> list[Any]:
        with closing(open_store(store)) as connection:
            history = History(connection)
            session = history.session_of("stream of P1")
            return history.trials_of_session(session)

    def spans() -> int:
        with closing(open_store(store)) as connection:
            query = "SELECT count(*) FROM events WHERE kind = 'span'"
            return int(connection.execute(query).fetchone()[0])

    with Served(artifact, one, store, decoding, speed=8.0) as served:
        until(lambda: spans() > 0, "a whole exercise")
        assert trials() == []
        act(served, stream="stream of P1", action="automatic", on=True)
        until(lambda: len(trials()) > 0, "an automatic trial")
        act(served, stream="stream of P1", action="automatic", on=False)
        found = trials()[0]
    assert found.is_automatic
    assert found.name == "timed up and go"
    assert found.measures["total"].value == pytest.approx(15.0, abs=1.5)
    assert found.measures["turns"].value == 2
    with closing(open_store(store)) as connection:
        said = [(entry.actor, entry.action) for entry in entries(connection)]
    assert ("automatic", "recorded trial") in said


@pytest.mark.skipif(not VENDOR.joinpath("uPlot.iife.min.js").is_file(), reason="needs npm")
def test_a_file_of_settings_serves_its_streams(
    demo: tuple[Path, Path, dict[str, Path]], tmp_path: Path
) -> None:
    """`monitor --config FILE.toml`, with nothing else said: artifact, streams, patients, store."""
    artifact, _, recordings = demo
    recording = recordings["DEMO-recovering"]
    (tmp_path / "ward.toml").write_text(
        f'artifact = "{artifact}"\n'
        'outputs = ["store:beds.db"]\n'
        '[[stream]]\nname = "bed-1"\npatient = "P-017"\n'
        f'inputs = ["file:{recording}?repeat=1000"]\n'
        '[[stream]]\nname = "bed-2"\npatient = "P-018"\n'
        f'inputs = ["file:{recording}?repeat=1000"]\n'
    )
    command = [sys.executable, "-m", "edgelstm.cli", "monitor", "--config", "ward.toml"]
    running = subprocess.Popen(
        [*command, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert running.stdout is not None
    try:
        said = running.stdout.readline().decode()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert address is not None, said
        assert "store beds.db" in said or f"store {tmp_path / 'beds.db'}" in said
        with urllib.request.urlopen(f"{address[0]}api/streams") as answer:
            streams = json.load(answer)["streams"]
        assert [(x["name"], x["patient"]) for x in streams] == [
            ("bed-1", "P-017"),
            ("bed-2", "P-018"),
        ]
        until(lambda: _patients(tmp_path / "beds.db") == ["P-017", "P-018"], "the store")
    finally:
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, rest.decode()


def _patients(store: Path) -> list[str]:
    with closing(open_store(store, is_new_allowed=False)) as connection:
        return History(connection).patients()


@pytest.mark.parametrize("command", ["report-patient", "patients list", "audit-log verify"])
def test_what_is_no_store_is_not_to_be_removed(command: str, tmp_path: Path) -> None:
    """It may be all that a user has of something else."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("all of my work, " * 100)
    words = [*command.split(), thesis, *(["P1"] if command == "report-patient" else [])]
    result = invoke(*words)
    assert result.exit_code == 7, result.output
    assert "no store of edgelstm" in result.stderr
    assert "remove" not in result.stderr
    assert thesis.read_text() == "all of my work, " * 100
