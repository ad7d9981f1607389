"""Finds the place in an output where a run that ended stopped writing."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import RecordingError
from edgelstm.io.base import Array
from edgelstm.io.numpy_arrays import read_arrays
from edgelstm.io.sinks.lines import TAIL_BYTES
from edgelstm.io.state_file import Written
from edgelstm.outputs import STANDARD


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on in a file of lines.

    Args:
        size: bytes that stay.
        tail: the last of them.
        predictions: how many they hold.
    """

    size: int
    tail: bytes
    predictions: int


def find_place(path: str, written: Written | None, head: bytes, is_live: bool) -> Place | None:
    """Where lines are to be appended; None where the file begins anew.

    What was written behind the state is written again by a recording. What a live stream wrote
    there stays, because its frames do not come again; only a line that was cut off goes.

    Args:
        path: the output.
        written: how far an earlier run wrote it.
        head: what the file begins with.
        is_live: see above.

    Raises:
        RecordingError: the file is not the one that the state tells of.
    """
    if written is None or not written.predictions or not _is_file(path):
        return None
    with open(path, "rb") as file:
        if file.read(len(head)) != head:
            raise RecordingError(
                f"{path} has other columns than {head.decode().strip()}: continue it with the "
                "options it was begun with, or name a new output"
            )
        file.seek(max(written.size - len(written.tail), 0))
        if file.read(len(written.tail)) != written.tail:
            raise _other_file(path, written)
        if not is_live:
            return Place(written.size, written.tail, written.predictions)
        size, count = written.size, written.predictions
        for line in file:
            if line.endswith(b"\n"):
                size += len(line)
                count += 1
        file.seek(max(size - TAIL_BYTES, 0))
        return Place(size, file.read(size - file.tell()), count)


def find_arrays(path: str, written: Written | None) -> dict[str, Array]:
    """The arrays that are to be continued; empty where the file begins anew.

    Raises:
        RecordingError: the file is not the one that the state tells of.
    """
    if written is None or not written.predictions or not _is_file(path):
        return {}
    arrays = dict(read_arrays(Path(path), path))
    if any(len(array) != written.predictions for array in arrays.values() if array.ndim):
        raise _other_file(path, written)
    return arrays


def expect_continued(path: str, written: Written | None, state: Path) -> None:
    """Refuse to continue a stream into a file with predictions that the state does not know of.

    Raises:
        RecordingError: there is such a file.
    """
    if written is None and _is_file(path) and os.path.getsize(path):
        raise RecordingError(
            f"{path} is there already, and {state} does not tell how far it goes: name the state "
            "file it was written with, another output, or run without --resume to begin anew"
        )


def _is_file(path: str) -> bool:
    if path == STANDARD:
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _other_file(path: str, written: Written) -> RecordingError:
    return RecordingError(
        f"{path} does not hold the {written.predictions} predictions that the state file tells of: "
        "name the output it was written with, or a new one"
    )
