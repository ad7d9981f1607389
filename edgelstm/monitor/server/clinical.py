"""What the page writes: trials, notes, markers, acknowledgements; each stands in the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgelstm.errors import RecordingError
from edgelstm.io.decoding.events import ALARM_ACKNOWLEDGED, SPAN
from edgelstm.io.live_run import LiveRun
from edgelstm.io.predictions import Event
from edgelstm.io.sinks.store.schema import open_store, transaction
from edgelstm.io.writer import Writer
from edgelstm.monitor.audit_log import append_entry, patient_digest
from edgelstm.monitor.history import History
from edgelstm.monitor.server.hub import Hub

LATE_S = 3.0
"""Decisions about phases come late, and go into the store later still: then trials are measured."""

_LONGEST_TEXT = 2000
_MARGIN_S = 0.01

_T = TypeVar("_T")


class Clinical:
    """The clinical part of the run's store.

    Args:
        path: of the store.
        hub: whose streams are recorded.
        run: that records them.
        late_s: when a trial that ended is measured again.
    """

    def __init__(self, path: Path, hub: Hub, run: LiveRun, late_s: float = LATE_S) -> None:
        self.path = path
        self._hub = hub
        self._run = run
        self._late_s = late_s
        self._own = Writer()
        self._connection: sqlite3.Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_automatic: set[str] = set()

    async def open(self) -> None:
        """Open the store.

        Raises:
            OutputError: it cannot be.
        """

        def connect() -> None:
            self._connection = open_store(self.path)

        await self._own.submit(connect)

    async def close(self) -> None:
        """End; what waits to be measured is measured now."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

        def disconnect() -> None:
            if self._connection is not None:
                self._connection.close()

        await self._own.submit(disconnect)
        await self._own.close()

    async def ask(self, work: Callable[[History], _T]) -> _T:
        """Read something."""
        return await self._submit(lambda connection: work(History(connection)))

    async def note_access(self, role: str, action: str, patient: str, detail: str = "") -> None:
        """An entry in the audit log."""

        def work(connection: sqlite3.Connection) -> None:
            subject = patient_digest(connection, patient) if patient else ""
            append_entry(connection, role, action, subject, detail)

        await self._submit(work)

    async def act(self, role: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the page asks for; what there is to answer.

        Raises:
            RecordingError: it cannot be done, or is no command.
        """
        action = command.get("action")
        stream = _text(command, "stream", 200)
        if stream not in self._hub.views:
            raise RecordingError("there is no such stream")
        actions: dict[object, Callable[[], Any]] = {
            "start": lambda: self._start(role, stream, command),
            "stop": lambda: self._stop(role, stream),
            "discard": lambda: self._discard(role, stream, command),
            "automatic": lambda: self._automatic(role, stream, command),
            "note": lambda: self._annotate(role, stream, "note", _text(command, "text")),
            "marker": lambda: self._annotate(role, stream, "marker", _text(command, "text", 100)),
            "acknowledge": lambda: self._acknowledge(role, stream, command),
        }
        chosen = actions.get(action) if isinstance(action, str) else None
        if chosen is None:
            raise RecordingError("there is no such action")
        found = await chosen()
        return found if isinstance(found, dict) else {}

    def see(self, event: Event) -> None:
        """An event of the run: whole exercises are trials, where that is asked for."""
        if event.kind != SPAN or event.stream not in self._is_automatic:
            return
        view = self._hub.views.get(event.stream)
        if view is None or (view.trial is not None and not view.trial["ended"]):
            return
        begin = float(event.data.get("start", event.time)) - _MARGIN_S
        name = str(event.data.get("name", ""))

        async def record() -> None:
            def work(connection: sqlite3.Connection) -> int:
                history = History(connection)
                session = history.session_of(event.stream)
                trial = history.begin_trial(session, name, "", begin, is_automatic=True)
                history.end_trial(trial, event.time + _MARGIN_S)
                append_entry(connection, "automatic", "recorded trial", f"trial {trial}")
                return trial

            await asyncio.sleep(self._late_s)
            trial = await self._submit(work)
            await self._show(event.stream, trial)

        self._later(record())

    async def _start(self, role: str, stream: str, command: Mapping[str, Any]) -> None:
        name, side = _text(command, "name", 100, True), _text(command, "side", 20, True)
        now = self._hub.views[stream].now()

        def work(connection: sqlite3.Connection) -> int:
            history = History(connection)
            trial = history.begin_trial(history.session_of(stream), name, side, now)
            append_entry(connection, role, "started trial", f"trial {trial}", side)
            return trial

        trial = await self._submit(work)
        await self._show(stream, trial)

    async def _stop(self, role: str, stream: str) -> None:
        trial = self._trial(stream)
        now = self._hub.views[stream].now()

        def work(connection: sqlite3.Connection) -> None:
            History(connection).end_trial(trial, now)
            append_entry(connection, role, "stopped trial", f"trial {trial}")

        await self._submit(work)
        await self._show(stream, trial)

        async def measure() -> None:
            await asyncio.sleep(self._late_s)
            await self.ask(lambda history: history.measure_trial(trial))
            await self._show(stream, trial)

        self._later(measure())

    async def _discard(self, role: str, stream: str, command: Mapping[str, Any]) -> None:
        trial, reason = self._trial(stream), _text(command, "reason", 500)

        def work(connection: sqlite3.Connection) -> None:
            History(connection).discard_trial(trial, reason)
            append_entry(connection, role, "discarded trial", f"trial {trial}")

        await self._submit(work)
        await self._show(stream, trial)

    async def _automatic(self, role: str, stream: str, command: Mapping[str, Any]) -> None:
        is_on = command.get("on") is True
        (self._is_automatic.add if is_on else self._is_automatic.discard)(stream)
        await self.note_access(role, f"automatic trials {'on' if is_on else 'off'}", "")

    async def _annotate(self, role: str, stream: str, kind: str, text: str) -> None:
        self._tell(stream, kind, text, {"by": role})
        view = self._hub.views[stream]
        await self.note_access(role, f"wrote {kind}", view.patient)

    async def _acknowledge(self, role: str, stream: str, command: Mapping[str, Any]) -> None:
        name = _text(command, "name", 200)
        if not self._run.acknowledge(stream, name, role):
            if not self._hub.settle_alarm(stream, name):
                raise RecordingError("there is no such alarm")
            data = {"name": name, "by": role}
            self._tell(stream, ALARM_ACKNOWLEDGED, f"{name} acknowledged by {role}", data)
        await self.note_access(role, "acknowledged alarm", "", name)

    def _tell(self, stream: str, kind: str, text: str, data: Mapping[str, Any]) -> None:
        if self._hub.is_over:
            raise RecordingError("the run has ended: nothing more is recorded")
        model = self._hub.context.model
        self._run.tell(
            Event(
                *(stream, self._hub.views[stream].now(), kind, text),
                *(None, data, model.name, model.model_id),
            )
        )

    def _trial(self, stream: str) -> int:
        trial = self._hub.views[stream].trial
        if trial is None:
            raise RecordingError("there is no trial: start one")
        return int(trial["id"])

    async def _show(self, stream: str, trial: int) -> None:
        def work(history: History) -> dict[str, Any] | None:
            found = [
                t for t in history.trials_of_session(history.session_of(stream)) if t.id == trial
            ]
            if not found:
                return None
            each = found[0]
            return {
                "id": each.id,
                "name": each.name,
                "side": each.side,
                "started": each.started,
                "ended": each.ended,
                "discarded": each.discarded,
                "measures": [[m.name, m.value, m.unit] for m in each.measures.values()],
            }

        found = await self.ask(work)
        view = self._hub.views[stream]
        # One that is measured late must not hide the one behind it.
        if found is not None and (view.trial is None or trial >= view.trial["id"]):
            view.trial = found

    def _later(self, work: Any) -> None:
        async def quiet() -> None:
            # Nobody waits for it; a store that cannot be written is told by the run itself.
            with contextlib.suppress(sqlite3.Error, RecordingError):
                await work

        task = asyncio.get_running_loop().create_task(quiet())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def whole() -> _T:
            connection = self._connection
            assert connection is not None
            with transaction(connection):
                found = work(connection)
            return found

        result: _T = await self._own.submit(whole)  # type: ignore[assignment]
        return result


def _text(
    command: Mapping[str, Any], key: str, most: int = _LONGEST_TEXT, is_empty_allowed: bool = False
) -> str:
    found = command.get(key, "")
    if not isinstance(found, str):
        raise RecordingError(f"{key} is no text")
    found = "".join(c for c in found if c.isprintable() or c in "\n\t").strip()
    if len(found) > most:
        raise RecordingError(f"{key} has more than {most} characters")
    if not found and not is_empty_allowed:
        raise RecordingError(f"{key} is empty")
    return found
