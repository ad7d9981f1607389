"""Loading native code out of memory: bytes of a shared object in, addresses of symbols out."""

from __future__ import annotations

import _ctypes
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


class Library:
    """A loaded shared object; unloaded when nothing refers to it or its functions any more.

    Not a ctypes.CDLL: each of those makes a class of its own, which only the cyclic garbage
    collector frees.

    Args:
        handle: of the system's loader.
    """

    __slots__ = ("__weakref__", "_handle")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        finalizer = weakref.finalize(self, _close, handle)
        # Threads may still be stepping while the interpreter ends.
        finalizer.atexit = False

    def address(self, name: str) -> int | None:
        """Where a symbol stands; None where there is none of that name."""
        try:
            return _address(self._handle, name)
        except (OSError, AttributeError):
            return None


def load_shared_object(code: memoryview, name: str) -> Library:
    """Load the shared object.

    An anonymous file in memory is used where the system has them, else a private temporary file.

    Raises:
        TargetUnavailableError: the system refuses to load it.
    """
    try:
        return Library(_load_from_memory(code, name))
    except OSError:
        try:
            return Library(_load_from_disk(code, name))
        except OSError as exc:
            raise TargetUnavailableError(
                f"cannot load the compiled code of {name!r}: {exc}; "
                "set TMPDIR to a folder from which programs may be run"
            ) from exc


if sys.platform == "win32":

    def _open(path: str) -> int:
        return int(_ctypes.LoadLibrary(path))

    def _close(handle: int) -> None:
        _ctypes.FreeLibrary(handle)

    def _address(handle: int, name: str) -> int:
        function = getattr(ctypes.CDLL("", handle=handle), name)
        return ctypes.cast(function, ctypes.c_void_p).value or 0

else:

    def _open(path: str) -> int:
        return int(_ctypes.dlopen(path, ctypes.DEFAULT_MODE))

    def _close(handle: int) -> None:
        _ctypes.dlclose(handle)

    def _address(handle: int, name: str) -> int:
        return int(_ctypes.dlsym(handle, name))


def _load_from_memory(code: memoryview, name: str) -> int:
    if not hasattr(os, "memfd_create"):
        raise OSError("no anonymous files on this system")
    descriptor = os.memfd_create(f"edgelstm-{name}"[:200], os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, code)
        return _open(_unique_path(descriptor))
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


def _load_from_disk(code: memoryview, name: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="edgelstm-"))
    path = folder / f"{name}.so"
    try:
        with open(path, "xb") as file:
            file.write(code)
        return _open(str(path))
    finally:
        # Where a loaded file cannot be removed (Windows) it stays until the system cleans up.
        with contextlib.suppress(OSError):
            path.unlink()
            folder.rmdir()


def _write_all(descriptor: int, data: memoryview) -> None:
    position = 0
    while position < len(data):
        position += os.write(descriptor, data[position:])
