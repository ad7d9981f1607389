"""The routes: pages, files, what the page asks for and does, and the stream of samples."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from edgelstm.errors import EdgeLSTMError
from edgelstm.monitor.export import dump, to_csv, to_fhir, to_json
from edgelstm.monitor.server.access import ANNOTATE, COOKIE, SESSION_S, Access
from edgelstm.monitor.server.clinical import Clinical
from edgelstm.monitor.server.hub import Client, Hub
from edgelstm.monitor.server.insights import Insights
from edgelstm.monitor.server.pages import history_page

STATIC = Path(__file__).resolve().parent.parent / "static"
VENDOR = STATIC / "vendor"
MOST_BODY = 16 * 1024
MOST_VIEWERS = 64

_BODY_S = 10.0
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class Guard:
    """In front of everything: the right host, and headers that bind the browser."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if not self._access.is_own_host(connection):
            await _refuse(scope, receive, send, 421, "this server has another name")
            return
        if scope["type"] == "http" and not self._access.may(connection, "requests", 300, 60):
            await _refuse(scope, receive, send, 429, "too many requests")
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(1008)
        return
    await PlainTextResponse(text, status, _HEADERS)(scope, receive, send)


class Pages:
    """What the routes do.

    Args:
        hub: what is shown.
        clinical: what is written and read.
        access: who may.
        insights: why the model said so.
    """

    def __init__(self, hub: Hub, clinical: Clinical, access: Access, insights: Insights) -> None:
        self._insights = insights
        self._hub = hub
        self._clinical = clinical
        self._access = access

    def app(self) -> ASGIApp:
        """The application."""
        routes = [
            Route("/", self._index),
            Route("/why", self._why_page),
            Route("/api/why", self._asked(self._why)),
            Route("/api/streams", self._asked(self._streams)),
            Route("/history", self._asked(self._history)),
            Route("/export", self._asked(self._export)),
            Route("/api/role", self._role),
            Route("/api/login", self._log_in, methods=["POST"]),
            Route("/api/logout", self._log_out, methods=["POST"]),
            Route("/api/act", self._act, methods=["POST"]),
            WebSocketRoute("/live", self._live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Guard(Starlette(routes=routes), self._access)

    async def _index(self, request: Request) -> Response:
        del request
        return FileResponse(STATIC / "index.html")

    async def _why_page(self, request: Request) -> Response:
        del request
        return FileResponse(STATIC / "why.html")

    async def _why(self, request: Request) -> Response:
        if not self._access.may(request, "why", 10, 2):
            return PlainTextResponse("too many requests", 429)
        return JSONResponse(await self._insights.answer(request.query_params))

    async def _streams(self, request: Request) -> Response:
        del request
        return JSONResponse({"streams": [view.describe() for view in self._hub.views.values()]})

    async def _role(self, request: Request) -> Response:
        role = self._access.role(request)
        return JSONResponse({"role": role, "needs_token": bool(self._access.tokens)})

    def _asked(self, handler: Handler) -> Handler:
        """A page for those who may look; errors of the user's as text."""

        async def answer(request: Request) -> Response:
            if not self._access.role(request):
                return PlainTextResponse("log in first, on the live page", 401)
            try:
                return await handler(request)
            except EdgeLSTMError as exc:
                return PlainTextResponse(str(exc), 404)

        return answer

    async def _history(self, request: Request) -> Response:
        patient = request.query_params.get("patient", "")
        text = await self._clinical.ask(lambda history: history_page(history, patient))
        if patient:
            await self._clinical.note_access(
                self._access.role(request), "looked at patient", patient
            )
        return Response(text, media_type="text/html; charset=utf-8")

    async def _export(self, request: Request) -> Response:
        patient = request.query_params.get("patient", "")
        kind = request.query_params.get("format", "csv")
        found = await self._clinical.ask(lambda history: history.of_patient(patient))
        makers: dict[str, tuple[Callable[[], str], str, str]] = {
            "csv": (lambda: to_csv(found), "text/csv; charset=utf-8", "csv"),
            "json": (lambda: dump(to_json(found)), "application/json", "json"),
            "fhir": (lambda: dump(to_fhir(found)), "application/fhir+json", "fhir.json"),
        }
        if kind not in makers:
            return PlainTextResponse(f"formats are {', '.join(makers)}", 404)
        make, media, suffix = makers[kind]
        role = self._access.role(request)
        await self._clinical.note_access(role, "exported patient", patient, kind)
        # The name is ours: a pseudonym may hold anything.
        disposition = {"content-disposition": f'attachment; filename="patient.{suffix}"'}
        return Response(make(), media_type=media, headers=disposition)

    async def _log_in(self, request: Request) -> Response:
        if not self._access.is_same_origin(request):
            return PlainTextResponse("from another page", 403)
        if not self._access.may(request, "log in", 5, 5 / 60):
            return PlainTextResponse("too many attempts: wait a minute", 429)
        command = await self._body(request)
        if isinstance(command, Response):
            return command
        token = command.get("token")
        session, role = self._access.log_in(token if isinstance(token, str) else "")
        await self._clinical.note_access(
            role or "nobody", "logged in" if role else "failed to log in", ""
        )
        if not role:
            return PlainTextResponse("no such token", 401)
        response = JSONResponse({"role": role})
        response.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=self._access.is_encrypted,
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        if not self._access.is_same_origin(request):
            return PlainTextResponse("from another page", 403)
        self._access.log_out(request.cookies.get(COOKIE, ""))
        response = JSONResponse({})
        response.delete_cookie(COOKIE)
        return response

    async def _act(self, request: Request) -> Response:
        if not self._access.is_same_origin(request):
            return PlainTextResponse("from another page", 403)
        role = self._access.role(request)
        if role != ANNOTATE:
            return PlainTextResponse("you may look, not write", 403 if role else 401)
        if not self._access.may(request, "act", 20, 4):
            return PlainTextResponse("too many requests", 429)
        command = await self._body(request)
        if isinstance(command, Response):
            return command
        try:
            return JSONResponse(await self._clinical.act(role, command))
        except EdgeLSTMError as exc:
            return PlainTextResponse(str(exc), 400)

    async def _body(self, request: Request) -> dict[str, Any] | Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("JSON is expected", 415)
        data = b""
        try:
            async with asyncio.timeout(_BODY_S):
                async for part in request.stream():
                    data += part
                    if len(data) > MOST_BODY:
                        return PlainTextResponse("too large", 413)
            found = json.loads(data)
        except TimeoutError:
            return PlainTextResponse("too slow", 408)
        except (ClientDisconnect, ValueError, RecursionError):
            return PlainTextResponse("no JSON", 400)
        return found if isinstance(found, dict) else PlainTextResponse("no JSON object", 400)

    async def _live(self, socket: WebSocket) -> None:
        role = self._access.role(socket)
        if not role or not self._access.is_same_origin(socket):
            await socket.close(1008)
            return
        if len(self._hub.clients) >= MOST_VIEWERS or not self._access.may(socket, "live", 40, 2):
            await socket.close(1013)
            return
        await socket.accept()
        client = self._hub.join(role)
        reader = asyncio.create_task(_listen(socket, client))
        try:
            while (message := await client.get()) is not None:
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_text(message)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the browser went while something was on its way
        finally:
            self._hub.leave(client)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(1001)


async def _listen(socket: WebSocket, client: Client) -> None:
    """Pages say nothing here; one that does is given up."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
        await socket.receive()
    client.give_up()
