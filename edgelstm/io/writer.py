"""The one thread that writes databases and tables, so that no disk stops the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable


class Writer:
    """Does jobs one after another in a thread, which begins with the first of them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], object], asyncio.Future[object], asyncio.AbstractEventLoop] | None
        ] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], object]) -> asyncio.Future[object]:
        """Have a job done; its result or error arrives in the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()
        self._jobs.put((job, future, loop))
        return future

    async def close(self) -> None:
        """End the thread behind its last job."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            while thread.is_alive():
                await asyncio.sleep(0.005)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future, loop = item
            result: object = None
            error: BaseException | None = None
            try:
                result = job()
            except BaseException as exc:
                error = exc
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has ended


def _settle(future: asyncio.Future[object], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
