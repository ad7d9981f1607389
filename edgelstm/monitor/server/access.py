"""Who may look and who may write: tokens, sessions, where requests come from, how many."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from edgelstm.errors import OutputError

VIEW, ANNOTATE = "view", "annotate"
COOKIE = "edgelstm_session"
SESSION_S = 12 * 3600.0

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_SHORTEST_TOKEN = 16
_MOST_SESSIONS = 1000


def is_local(host: str) -> bool:
    """Whether an address is this machine's own."""
    return host in _LOCAL


def read_tokens(path: Path) -> dict[str, str]:
    """Role by token; a file that is not there is made, with a token for each role.

    Raises:
        OutputError: it cannot be read or made, others can read it, or a line is wrong.
    """
    try:
        if not path.exists():
            text = "".join(f"{role} {secrets.token_urlsafe(24)}\n" for role in (VIEW, ANNOTATE))
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise OutputError(f"{path}: others can read the tokens: chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as exc:
        raise OutputError(f"{path}: {exc}") from exc
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        role, _, token = line.partition(" ")
        if role not in (VIEW, ANNOTATE) or len(token.strip()) < _SHORTEST_TOKEN:
            raise OutputError(
                f"{path}:{number}: a line is `{VIEW} TOKEN` or `{ANNOTATE} TOKEN`, a token of at "
                f"least {_SHORTEST_TOKEN} characters"
            )
        tokens[token.strip()] = role
    if not tokens:
        raise OutputError(f"{path}: holds no token; remove it, and one for each role is made")
    return tokens


@dataclass(slots=True)
class Bucket:
    """How many requests there may be: some at once, and some a second.

    Args:
        at_once: at most so many.
        per_s: so many come back every second.
    """

    at_once: float
    per_s: float
    _left: float = -1.0
    _seen: float = 0.0

    def take(self) -> bool:
        """Whether there may be one now."""
        now = time.monotonic()
        if self._left < 0:
            self._left, self._seen = self.at_once, now
        self._left = min(self.at_once, self._left + (now - self._seen) * self.per_s)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class Access:
    """Decides about every request.

    Args:
        tokens: role by token; empty: whoever is on this machine may do everything.
        is_encrypted: the page is served by TLS.
    """

    tokens: Mapping[str, str] = field(default_factory=dict)
    is_encrypted: bool = False
    _sessions: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def role(self, request: HTTPConnection) -> str:
        """What a request may do; "" for nothing."""
        if not self.tokens:
            return ANNOTATE
        found = self._sessions.get(_digest(request.cookies.get(COOKIE, "")))
        return found[0] if found is not None and found[1] > time.time() else ""

    def log_in(self, token: str) -> tuple[str, str]:
        """A session for a token and its role; "" for a token that is none."""
        role = ""
        for known, its_role in self.tokens.items():
            if hmac.compare_digest(known.encode(), token.encode(errors="replace")):
                role = its_role
        if not role:
            return "", ""
        now = time.time()
        live = {key: found for key, found in self._sessions.items() if found[1] > now}
        while len(live) >= _MOST_SESSIONS:
            live.pop(next(iter(live)))
        session = secrets.token_urlsafe(32)
        live[_digest(session)] = (role, now + SESSION_S)
        self._sessions = live
        return session, role

    def log_out(self, session: str) -> None:
        """A session ends."""
        self._sessions.pop(_digest(session), None)

    def is_own_host(self, request: HTTPConnection) -> bool:
        """Whether the browser asked for this machine by a name of its own.

        Without tokens that is all that keeps out a page whose name was made to point here.
        """
        return bool(self.tokens) or is_local(_host(request.headers.get("host", "")))

    def is_same_origin(self, request: HTTPConnection) -> bool:
        """Whether the request comes from our own page."""
        origin = request.headers.get("origin", "")
        scheme = "https" if self.is_encrypted else "http"
        return origin == f"{scheme}://{request.headers.get('host', '')}"

    def may(self, request: HTTPConnection, what: str, at_once: float, per_s: float) -> bool:
        """Whether an address has not asked too often for something."""
        key = (request.client.host if request.client else "", what)
        if key not in self._buckets and len(self._buckets) >= 10_000:
            self._buckets.clear()
        return self._buckets.setdefault(key, Bucket(at_once, per_s)).take()


def _host(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode(errors="replace")).digest()
