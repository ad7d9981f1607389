"""Loading native code out of memory: bytes of a shared object in, a ctypes library out."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
import tempfile
import weakref
from pathlib import Path

from edgelstm.errors import TargetUnavailableError

_counter = itertools.count(1)


def load_shared_object(code: memoryview, name: str) -> ctypes.CDLL:
    """Load the shared object; it is unloaded when nothing refers to its functions any more.

    An anonymous file in memory is used where the system has them, else a private temporary file.

    Raises:
        TargetUnavailableError: the system refuses to load it.
    """
    try:
        library = _load_from_memory(code, name)
    except OSError:
        try:
            library = _load_from_disk(code, name)
        except OSError as exc:
            raise TargetUnavailableError(
                f"cannot load the compiled code of {name!r}: {exc}; "
                "set TMPDIR to a folder from which programs may be run"
            ) from exc
    if sys.platform != "win32":
        import _ctypes

        finalizer = weakref.finalize(library, _ctypes.dlclose, library._handle)
        # Threads may still be stepping while the interpreter ends.
        finalizer.atexit = False
    return library


def _load_from_memory(code: memoryview, name: str) -> ctypes.CDLL:
    if not hasattr(os, "memfd_create"):
        raise OSError("no anonymous files on this system")
    descriptor = os.memfd_create(f"edgelstm-{name}"[:200], os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, code)
        return ctypes.CDLL(_unique_path(descriptor))
    finally:
        os.close(descriptor)


def _unique_path(descriptor: int) -> str:
    """A path of an open file that was never used before.

    dlopen takes two equal paths for one library before it looks at the files, and descriptor
    numbers are reused: the second model loaded would silently run the code of the first. So a
    counter is written into the path, a zero as `/` and a one as `/.`, which all mean the same file.
    """
    digits = f"{next(_counter):b}".replace("0", "/").replace("1", "/.")
    return f"/proc/self/fd{digits}/{descriptor}"


def _load_from_disk(code: memoryview, name: str) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(prefix="edgelstm-"))
    path = folder / f"{name}.so"
    try:
        with open(path, "xb") as file:
            file.write(code)
        return ctypes.CDLL(str(path))
    finally:
        # Where a loaded file cannot be removed (Windows) it stays until the system cleans up.
        with contextlib.suppress(OSError):
            path.unlink()
            folder.rmdir()


def _write_all(descriptor: int, data: memoryview) -> None:
    position = 0
    while position < len(data):
        position += os.write(descriptor, data[position:])
