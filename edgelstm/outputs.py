"""The one way in which every command opens what it writes, so that nothing of the user's is lost.

An output is never a file that is also read, never a directory and never a block device. FIFOs and
character devices are written into. A file appears whole, under another name first and then renamed,
with the mode and owner of the one it replaces; a failed write leaves that one as it was. A symbolic
link stays, and its target is written.

Folders of many files are in `output_folder.py`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from edgelstm.errors import EdgeLSTMError, OutputError

STANDARD = "-"
"""In place of a path: standard input or standard output."""

READER_WAIT_S = 10.0
"""How long a FIFO may be without a reader before that is an error."""

PIPE_BYTES: int = getattr(select, "PIPE_BUF", 512)
"""What a pipe takes whole or not at all."""

# Some names are there on POSIX alone, and importing this must work everywhere.
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_POLL_S = 0.05
_LONGEST_NAME = 200

AnyPath = str | os.PathLike[str]
Protected = AnyPath | int
"""Something that is read: a path, `-`, or an open descriptor."""


class Output(io.RawIOBase):
    """An open output; made by `open_output`.

    Args:
        descriptor: open for writing; None where `stream` takes the bytes.
        name: what the user called it, for messages.
        error: raised, with one sentence, where a write fails.
        pending: the name the file has now and the one it gets; None where it is in place.
        stream: takes the bytes where there is no descriptor.
        owns: whether closing the output closes the descriptor.
    """

    def __init__(
        self,
        descriptor: int | None,
        name: str,
        error: type[EdgeLSTMError],
        pending: tuple[str, str] | None = None,
        stream: Any = None,
        owns: bool = True,
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._label = name
        self._error = error
        self._pending = pending
        self._stream = stream
        self._owns = owns
        self._is_regular = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.while_waiting: Callable[[], None] = lambda: None
        """Called again and again while a pipe is full; may raise to give up."""

    @property
    def is_regular(self) -> bool:
        """Whether it is a file that has a size and can be cut."""
        return self._is_regular

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether positions mean anything here."""
        return self._is_regular

    def tell(self) -> int:
        """The position in a file."""
        return self.seek(0, os.SEEK_CUR)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move in a file."""
        if not self._is_regular or self._descriptor is None:
            raise io.UnsupportedOperation("seek")
        return os.lseek(self._descriptor, offset, whence)

    def end(self) -> int:
        """How much of a file is before what is written next; 0 where nothing is a file."""
        if not self._is_regular or self._descriptor is None:
            return 0
        if _appends(self._descriptor):
            return os.fstat(self._descriptor).st_size
        return self.tell()

    def truncate(self, size: int | None = None, /) -> int:
        """Cut a file, and stand at its end."""
        end = self.tell() if size is None else size
        if self._descriptor is None:
            raise io.UnsupportedOperation("truncate")
        os.ftruncate(self._descriptor, end)
        return self.seek(end)

    def take_back(self, size: int) -> None:
        """Cut what was written last, where nothing stands behind it."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_size == self.end():
            self.truncate(size)

    def write(self, data: Any, /) -> int:
        """Write all of the bytes.

        Raises:
            EdgeLSTMError: the kind that `open_output` was given; it could not be written.
            BrokenPipeError: nobody reads any more.
        """
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self.write_some(view[done:])
        return done

    def write_some(self, data: memoryview) -> int:
        """Write at least one of the bytes; how many.

        Raises:
            EdgeLSTMError, BrokenPipeError: as for `write`.
        """
        try:
            if self._descriptor is None:
                self._stream.write(data)
                self._stream.flush()
                return len(data)
            if self._is_regular:
                return os.write(self._descriptor, data)
            self._await_room()
            # A pipe that has room takes this much without blocking, whole or not at all.
            return os.write(self._descriptor, data[:PIPE_BYTES])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise self.failure(exc) from exc

    def failure(self, reason: OSError) -> EdgeLSTMError:
        """The error that says why this output cannot be written."""
        return self._error(f"cannot write {self._label}: {_reason(reason)}")

    def _await_room(self) -> None:
        """Returns when a write would not block, or would fail."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        while not poll.poll(_POLL_S * 1000):
            self.while_waiting()

    def fileno(self) -> int:
        """The descriptor."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def sync(self) -> None:
        """Have the bytes on the medium, where it is one."""
        if self._is_regular and self._descriptor is not None:
            try:
                os.fsync(self._descriptor)
            except OSError as exc:
                raise self.failure(exc) from exc

    def place(self) -> None:
        """Give the file its name, in place of the one that had it; writing may go on."""
        if self._pending is None:
            return
        temporary, target = self._pending
        self.sync()
        try:
            os.replace(temporary, target)
        except OSError as exc:
            raise self.failure(exc) from exc
        self._pending = None
        _sync_folder(os.path.dirname(target))

    def close(self) -> None:
        """Close it; a file without its final name is removed."""
        if self.closed:
            return
        super().close()
        if self._pending is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._pending[0])
        if self._owns and self._descriptor is not None:
            os.close(self._descriptor)


def check_output(
    path: AnyPath,
    protect: Iterable[Protected] = (),
    error: type[EdgeLSTMError] = OutputError,
) -> None:
    """Refuse early what `open_output` would refuse, before work that takes long.

    Args:
        path: where to; `-` is standard output.
        protect: what is read: an output that is the same file is refused, by whatever name.
        error: what is raised.

    Raises:
        EdgeLSTMError: of the kind given: it is also an input, or nothing that can be written.
    """
    _inspect(path, protect, error)


@contextmanager
def open_output(
    path: AnyPath,
    protect: Iterable[Protected] = (),
    error: type[EdgeLSTMError] = OutputError,
    append_at: int | None = None,
) -> Iterator[Output]:
    """Open an output; when the block ends without an error, the file takes its name.

    Args:
        path: where to; `-` is standard output.
        protect: see `check_output`.
        error: what is raised where the output is refused or cannot be written.
        append_at: continue the file that is there behind that many bytes, and cut the rest.

    Raises:
        EdgeLSTMError: of the kind given.
    """
    output = _open(path, protect, error, append_at)
    try:
        yield output
        output.place()
        output.sync()
    finally:
        output.close()


def write_output(
    path: AnyPath,
    data: bytes | Iterable[bytes | memoryview],
    protect: Iterable[Protected] = (),
    error: type[EdgeLSTMError] = OutputError,
) -> int:
    """Write a whole output at once; how many bytes it has.

    Raises:
        EdgeLSTMError: as for `open_output`.
    """
    pieces = [data] if isinstance(data, bytes) else data
    with open_output(path, protect, error) as output:
        return sum(output.write(piece) for piece in pieces)


def _inspect(
    path: AnyPath, protect: Iterable[Protected], error: type[EdgeLSTMError]
) -> os.stat_result | None:
    """What stands at the path now, links followed; None where nothing does."""
    text = os.fspath(path)
    if text == STANDARD and sys.stdout is None:
        raise error("cannot write standard output: standard output is closed; name a file")
    try:
        status = _standard_status() if text == STANDARD else _status(text)
    except (OSError, ValueError) as exc:
        raise error(f"cannot write {text}: {_reason(exc)}") from exc
    if status is None:
        _expect_folder(text, error)
        return None
    name = "standard output" if text == STANDARD else text
    other = _same_input(status, protect)
    if other is not None:
        raise error(f"cannot write {name}: it is the input {other}; name another output")
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise error(f"cannot write {name}: it is a directory; name a file in it")
    if stat.S_ISBLK(mode):
        raise error(f"cannot write {name}: it is a block device; name a file")
    if stat.S_ISSOCK(mode) and text != STANDARD and _descriptor_of(text) is None:
        raise error(f"cannot write {name}: it is a socket; name a file or a FIFO")
    if stat.S_ISREG(mode) and text != STANDARD and not os.access(text, os.W_OK):
        raise error(f"cannot write {name}: it is write-protected; name another output")
    return status


def _open(
    path: AnyPath,
    protect: Iterable[Protected],
    error: type[EdgeLSTMError],
    append_at: int | None,
) -> Output:
    text = os.fspath(path)
    status = _inspect(text, protect, error)
    if text == STANDARD:
        return _standard_output(error)
    try:
        descriptor = _descriptor_of(text)
        if descriptor is not None:
            return Output(os.dup(descriptor), text, error)
        if status is not None and not stat.S_ISREG(status.st_mode):
            return Output(_open_node(text, status, error), text, error)
        if append_at is not None and status is not None:
            output = Output(os.open(text, os.O_WRONLY | _FLAGS), text, error)
            output.truncate(append_at)
            return output
        target = os.path.realpath(text)
        temporary = _temporary_beside(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
        output = Output(os.open(temporary, flags, 0o666), text, error, (temporary, target))
    except (OSError, ValueError) as exc:
        raise error(f"cannot write {text}: {_reason(exc)}") from exc
    try:
        if status is not None:
            _take_over(output.fileno(), target, status)
    except OSError as exc:
        output.close()
        raise output.failure(exc) from exc
    return output


def _appends(descriptor: int) -> bool:
    """Whether every write goes to the end, wherever the descriptor stands."""
    if sys.platform == "win32":
        return False
    import fcntl

    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        if not path:
            raise
        return None


def _standard_status() -> os.stat_result | None:
    try:
        return os.fstat(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _standard_output(error: type[EdgeLSTMError]) -> Output:
    sys.stdout.flush()
    name = "standard output"
    try:
        return Output(sys.stdout.fileno(), name, error, owns=False)
    except (AttributeError, OSError, ValueError):
        return Output(None, name, error, stream=sys.stdout.buffer, owns=False)


def _expect_folder(path: str, error: type[EdgeLSTMError]) -> None:
    """The folder of a new file must be there: a mistyped one is not made."""
    if path == STANDARD:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if path.endswith(os.sep) or not os.path.isdir(folder):
        missing = path.rstrip(os.sep) if path.endswith(os.sep) else folder
        raise error(f"cannot write {path}: there is no folder {missing}")


def _same_input(status: os.stat_result, protect: Iterable[Protected]) -> str | None:
    """The input that a file is, by its name; standard input counts even if nobody names it."""
    # Devices hold nothing that could be lost, and terminals and sockets go both ways.
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
        return None
    for item in [*protect, 0]:
        try:
            other = os.fstat(0) if item == STANDARD else os.stat(item)
        except (OSError, ValueError):
            continue
        if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
            if item in (0, STANDARD):
                return "on standard input"
            return f"on descriptor {item}" if isinstance(item, int) else os.fspath(item)
    return None


def _descriptor_of(path: str) -> int | None:
    """The descriptor that a path such as /dev/stdout or /dev/fd/3 stands for."""
    own = f"/proc/{os.getpid()}/"
    for _ in range(40):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder or ".")
        if folder.startswith(own) and folder.endswith("/fd") and name.isdigit():
            return int(name)
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def _open_node(path: str, status: os.stat_result, error: type[EdgeLSTMError]) -> int:
    """A FIFO, when it has a reader, or a device, neither made nor replaced."""
    if not stat.S_ISFIFO(status.st_mode):
        return os.open(path, os.O_WRONLY | os.O_NOCTTY | _FLAGS)
    deadline = time.monotonic() + READER_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | _FLAGS)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        if time.monotonic() > deadline:
            raise error(
                f"cannot write {path}: nobody reads this FIFO; start its reader first"
            ) from None
        time.sleep(_POLL_S)


def _temporary_beside(target: str) -> str:
    """A name for the unfinished file: hidden, without the suffix that tools look for."""
    folder, name = os.path.split(target)
    name = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    return os.path.join(folder, f".{name}.{os.getpid()}-{secrets.token_hex(4)}")


def _take_over(descriptor: int, target: str, old: os.stat_result) -> None:
    """Give a new file the owner, as far as this is allowed, and the rights of the old one."""
    if sys.platform == "win32":
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
            try:
                os.fchown(descriptor, *owner)
                break
            except PermissionError:
                continue
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    if sys.platform == "linux":
        # With an access control list the group's bits of the mode are but its mask.
        with contextlib.suppress(OSError):
            for name in os.listxattr(target):
                if name.startswith("user.") or name == "system.posix_acl_access":
                    os.setxattr(descriptor, name, os.getxattr(target, name))


def _sync_folder(folder: str) -> None:
    """Have a new name on the medium; some file systems do not offer it."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}; make room and run it again"
    return text
