"""Runs in processes of their own that are looked at, killed and gone on with.

Nothing here goes by the clock: what is waited for is progress, so a machine that others use as well
only takes longer. A run has failed where it has used more of the processor than its work is worth,
or has neither used any nor come any further for a long time.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

STUCK_S = 300.0
"""A run that uses no processor and comes no further for so long stands still."""

_LOOK_S = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")
_MEMORY_SLACK = 64 << 20
_LOG_BYTES = 64 << 10
"""Room for what a run says while its disk is full."""


@dataclass
class Watch:
    """Memory and descriptors of a process over time."""

    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def look(self, pid: int) -> None:
        """Take note."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            self.descriptors.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        except (FileNotFoundError, ProcessLookupError):
            return
        line = next((x for x in status.splitlines() if x.startswith("VmRSS")), "VmRSS: 0 kB")
        self.memory.append(int(line.split()[1]) << 10)

    def expect_flat(self) -> None:
        """The end is as the middle was."""
        assert len(self.memory) >= 8, "the run was too short to tell whether it grows"
        half = len(self.memory) // 2
        before, after = max(self.memory[2:half]), max(self.memory[half:])
        assert after < before + _MEMORY_SLACK, f"memory grew from {before} to {after}"
        first, second = max(self.descriptors[:half]), max(self.descriptors[half:])
        # A connection may stand while the one before it is ending.
        assert second <= first + 3, f"descriptors grew from {first} to {second}"
        print(
            f"memory {before >> 20} MB, then {after >> 20} MB; descriptors {first}, then {second}",
            flush=True,
        )


class Run:
    """`edgelstm run` into a store, in a process of its own.

    Args:
        model: the artifact.
        arguments: of the command.
        store: the database that it writes.
        budget_s: seconds of the processor that it may use.
        watch: takes note of its memory.
    """

    def __init__(
        self, model: Path, arguments: tuple[str, ...], store: Path, budget_s: float, watch: Watch
    ) -> None:
        self._store = store
        self._budget_s = budget_s
        self._watch = watch
        self._log = store.with_suffix(f".{time.monotonic_ns()}.log")
        command = [sys.executable, "-m", "edgelstm.cli", "run", str(model), *arguments]
        # What it says goes into a file: a pipe that nobody empties would stop it.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-o", f"store:{store}"], stderr=log, stdout=subprocess.DEVNULL
            )
        self._came = time.monotonic()
        self._seen: tuple[float, int] = (0.0, 0)

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    @property
    def processor_s(self) -> float:
        """What it has used."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return self._seen[0]
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def wait_until(self, is_so: Callable[[], bool]) -> bool:
        """Wait for something; false where the run ended before."""
        while not is_so():
            if self.has_ended:
                return False
            self._watch.look(self._process.pid)
            self._expect_progress()
            time.sleep(_LOOK_S)
        return True

    def wait_for_sample(self, number: int) -> None:
        """Wait until that sample is dealt with for good."""
        assert self.wait_until(lambda: last_of(self._store) >= number), self.said

    def finish(self) -> str:
        """Wait for the end, which is a good one; what was said."""
        self.wait_until(lambda: self.has_ended)
        assert self._process.returncode == 0, self.said
        return self.said

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert not self.has_ended, f"the run ended before it was killed:\n{self.said}"
        self._process.kill()
        self._process.wait()

    def end(self) -> str:
        """End it by SIGTERM; what was said."""
        self._process.terminate()
        return self.finish()

    def fill_disk(self) -> None:
        """Let the store not grow until the run has said so, and then let it grow again."""
        endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(
            self._process.pid, resource.RLIMIT_FSIZE, (_LOG_BYTES, resource.RLIM_INFINITY)
        )
        assert self.wait_until(lambda: "output stuck" in self.said), self.said
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, endless)
        assert self.wait_until(lambda: "output again" in self.said), self.said

    def _expect_progress(self) -> None:
        used, last = self.processor_s, last_of(self._store)
        assert used < self._budget_s, f"it has used {used:.0f} s of the processor:\n{self.said}"
        if (used, last) != self._seen:
            self._seen, self._came = (used, last), time.monotonic()
        assert time.monotonic() - self._came < STUCK_S, f"it stands still:\n{self.said}"


def last_of(store: Path) -> int:
    """Number of the last sample that is dealt with for good; -1 of a store without any."""
    if not store.exists():
        return -1
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        try:
            row = connection.execute("SELECT max(last_sample) FROM checkpoints").fetchone()
        except sqlite3.OperationalError:
            return -1  # its tables are not there yet
    return -1 if row[0] is None else int(row[0])
