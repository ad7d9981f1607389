"""A few threads that stay: each does its part of a step, and waits for the next one."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

Part = Callable[[], int]


class StreamThreads:
    """Runs parts of one task side by side; the caller's own thread does the first of them.

    Threads are started once, and end with this object. They are of use where a part spends its time
    in native code, which the GIL is released for.

    Args:
        count: threads in all, the caller's included.
    """

    __slots__ = ("__weakref__", "_workers")

    def __init__(self, count: int) -> None:
        self._workers = [_Worker(f"edgelstm-streams-{i}") for i in range(1, count)]
        for worker in self._workers:
            # The thread holds its worker, and nobody holds this object for it.
            weakref.finalize(self, worker.stop)

    def __len__(self) -> int:
        return 1 + len(self._workers)

    def run(self, parts: Sequence[Part]) -> list[int]:
        """Do all parts, at most one for each thread; their results in order.

        Raises:
            BaseException: what a part raised, once all of them are done.
        """
        workers = self._workers[: len(parts) - 1]
        for worker, part in zip(workers, parts[1:], strict=True):
            worker.begin(part)
        try:
            results = [parts[0]()]
        finally:
            for worker in workers:
                worker.wait()
        return results + [worker.result() for worker in workers]

    def close(self) -> None:
        """End the threads."""
        for worker in self._workers:
            worker.stop()
        self._workers = []


class _Worker:
    """One thread, its task and the two locks that hand it over."""

    __slots__ = ("_done", "_error", "_part", "_result", "_thread", "_todo")

    def __init__(self, name: str) -> None:
        self._todo, self._done = threading.Lock(), threading.Lock()
        self._todo.acquire()
        self._done.acquire()
        self._part: Part | None = None
        self._result = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def begin(self, part: Part) -> None:
        self._part = part
        self._todo.release()

    def wait(self) -> None:
        self._done.acquire()

    def result(self) -> int:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result

    def stop(self) -> None:
        if self._thread.is_alive():
            self._part = None
            self._todo.release()
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _loop(self) -> None:
        while True:
            self._todo.acquire()
            part = self._part
            if part is None:
                return
            try:
                self._result = part()
            except BaseException as exc:  # handed to the caller's thread
                self._error = exc
            self._done.release()
