"""Sessions without number, the collector off: nothing of the system is left behind.

`python -m tests.fuzz.many_sessions 10000 [ARTIFACT]` loads the artifact (or a small LSTM) that
often, steps it, and compares descriptors, mappings and memory with those after the first tenth.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgelstm

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Holdings:
    """What this process has of the system."""

    descriptors: int
    mappings: int
    resident: int

    @classmethod
    def now(cls) -> Holdings:
        """As of now."""
        pages = Path("/proc/self/statm").read_text().split()[1]
        return cls(
            len(os.listdir("/proc/self/fd")),
            len(Path("/proc/self/maps").read_text().splitlines()),
            int(pages) * PAGE,
        )


def use_once(path: Path, number: int) -> None:
    """Load, step, snapshot; close every other session, leave the others to themselves."""
    artifact = edgelstm.load(path)
    session = artifact.session()
    spec = session.signature.inputs[0]
    frames = np.zeros((3, *spec.shape), spec.dtype.numpy)
    session.step(frames[0])
    session.run(frames)
    session.restore(session.snapshot())
    if number % 2:
        session.close()
    if number % 3 == 0:
        with artifact, artifact.session() as other:
            other.step(frames[0])


def check(path: Path, count: int) -> tuple[Holdings, Holdings]:
    """Use the artifact that often; what was held after a tenth, and at the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(count // 10):
            use_once(path, number)
        early = Holdings.now()
        for number in range(count - count // 10):
            use_once(path, number)
        late = Holdings.now()
    finally:
        if was_on:
            gc.enable()
    assert late.descriptors <= early.descriptors, (early, late)
    # What the allocator keeps for later stays below this, whatever the count.
    assert late.mappings <= early.mappings + 32, (early, late)
    assert late.resident <= early.resident + 4 * 2**20, (early, late)
    return early, late


def main(count: int, path: Path | None) -> None:
    """Print what was held."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            from edgelstm_compiler import compile_model
            from tests.models import lstm_model

            path = Path(folder, "small.edgelstm")
            compile_model(lstm_model(features=3, steps=None, outputs=("Y",))).save(path)
        early, late = check(path, count)
    print(f"{count} sessions, the collector off: {early} after a tenth, {late} at the end")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 10_000, Path(arguments[1]) if arguments[1:] else None)
