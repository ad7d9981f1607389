"""Writing a file that must not be there yet: keys, signatures, converted snapshots."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgelstm.errors import EdgeLSTMError


def write_new(
    path: Path, data: bytes, error: type[EdgeLSTMError], *, is_private: bool = False
) -> None:
    """Write a new file whole, or leave nothing there; one that exists is never touched.

    Args:
        path: where.
        data: its content.
        error: what is raised where it cannot be written.
        is_private: only the owner may read it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o600 if is_private else 0o666)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
    except FileExistsError as exc:
        raise error(f"{path} exists already and is not replaced: name another file") from exc
    except OSError as exc:
        raise error(f"cannot write {path}: {exc.strerror or exc}") from exc
