"""The function that opens every output: what it refuses, what it keeps, what it leaves behind."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgelstm.errors import ArtifactError, OutputError
from edgelstm.output_folder import LIST_NAME, write_folder
from edgelstm.outputs import check_output, open_output, write_output

OLD = b"the user's own"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "input.bin"
    path.write_bytes(OLD)
    return path


def hard_link(source: Path, path: Path) -> Path:
    os.link(source, path)
    return path


def symbolic_link(source: Path, path: Path) -> Path:
    path.symlink_to(source)
    return path


def long_way(source: Path, path: Path) -> Path:
    return path.parent / "." / path.parent.name / ".." / ".." / path.parent.name / source.name


ALIASES: dict[str, Callable[[Path, Path], Path]] = {
    "the same": lambda source, path: source,
    "hard link": hard_link,
    "symbolic link": symbolic_link,
    "another spelling": long_way,
}


@pytest.mark.parametrize("alias", ALIASES)
def test_an_input_is_refused_under_any_name(alias: str, source: Path, tmp_path: Path) -> None:
    """One file has many names; the error says which input it is."""
    (tmp_path / tmp_path.name).mkdir()
    path = ALIASES[alias](source, tmp_path / "alias")
    for attempt in (
        lambda: check_output(path, [source], ArtifactError),
        lambda: write_output(path, b"new", [source], ArtifactError),
    ):
        with pytest.raises(ArtifactError, match=r"is the input .*input\.bin; name another output"):
            attempt()
    assert source.read_bytes() == OLD


def test_the_file_on_standard_input_is_an_input(source: Path) -> None:
    """Nobody names it, and it is refused as output all the same, also as standard output."""
    code = f"from edgelstm.outputs import write_output; write_output({str(source)!r}, b'new')"
    standard = "from edgelstm.outputs import write_output; write_output('-', b'new')"
    for program, target in ((code, os.devnull), (standard, str(source))):
        with source.open("rb") as stdin, open(target, "ab") as stdout:
            done = subprocess.run(
                [sys.executable, "-c", program],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=Path(__file__).parents[3],
                check=False,
            )
        assert b"it is the input on standard input" in done.stderr
        assert source.read_bytes() == OLD


def test_a_file_keeps_its_mode_and_owner(source: Path) -> None:
    """What is replaced hands them on; a new file gets what the umask allows."""
    source.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(source, 1234, 4321)
    before = source.stat()
    assert write_output(source, b"new") == 3
    after = source.stat()
    assert source.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    fresh = source.with_name("fresh")
    mask = os.umask(0o027)
    try:
        write_output(fresh, b"new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o640


def test_a_file_keeps_its_attributes(source: Path) -> None:
    """What the user noted at a file stays there."""
    try:
        os.setxattr(source, "user.note", b"left knee")
    except OSError:
        pytest.skip("this file system has no attributes")
    write_output(source, b"new")
    assert os.getxattr(source, "user.note") == b"left knee"


@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_symbolic_link_stays(is_dangling: bool, source: Path, tmp_path: Path) -> None:
    """Its target is written, also where that is not there yet."""
    link = symbolic_link(source, tmp_path / "link")
    if is_dangling:
        source.unlink()
    write_output(link, b"new")
    assert link.is_symlink()
    assert source.read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file(source: Path, tmp_path: Path) -> None:
    """Neither a half new file nor a temporary one is there afterwards."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_output(source, pieces())
    assert source.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["input.bin"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_medium_is_one_error(source: Path, tmp_path: Path) -> None:
    """The old file is whole, the error says which output and why."""
    with (
        file_size_limit(1000),
        pytest.raises(OutputError, match=r"cannot write .*input\.bin: File too large"),
    ):
        write_output(source, bytes(2000))
    assert source.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["input.bin"]
    with pytest.raises(OutputError, match=r"/dev/full: No space left on device; make room"):
        write_output("/dev/full", b"new")
    assert OutputError("").exit_code == 7


def test_nodes_are_written_into_and_never_replaced(tmp_path: Path) -> None:
    """FIFO and character device are what they were; a FIFO that nobody reads is an error."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    write_output(fifo, bytes(100_000))
    reader.join()
    assert got == [bytes(100_000)]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    node = os.stat("/dev/null")
    write_output("/dev/null", b"new")
    write_output(symbolic_link(Path("/dev/null"), tmp_path / "null"), b"new")
    assert os.stat("/dev/null") == node


def test_a_fifo_without_a_reader_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for ever would look like work."""
    monkeypatch.setattr("edgelstm.outputs.READER_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match="nobody reads this FIFO; start its reader first"):
        write_output(tmp_path / "fifo", b"new")


def test_block_devices_are_refused(tmp_path: Path) -> None:
    """A mistyped name must not overwrite a disk."""
    node = tmp_path / "disk"
    try:
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("block devices can only be made by root")
    with pytest.raises(OutputError, match="it is a block device; name a file"):
        write_output(node, b"new")
    assert stat.S_ISBLK(node.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "No such file"),
        (".", "it is a directory; name a file in it"),
        ("missing/new", "there is no folder .*missing"),
        ("new/", "there is no folder"),
        ("input.bin/new", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "null"),
        ("n" * 300, "File name too long"),
    ],
)
def test_places_that_cannot_be_written(
    name: str, reason: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one sentence, before anything is written, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for attempt in (lambda: check_output(name), lambda: write_output(name, b"new")):
        with pytest.raises(OutputError, match=f"cannot write .*{reason}"):
            attempt()
    assert sorted(os.listdir(tmp_path)) == ["input.bin", "loop"]


def test_a_long_name_has_room_for_the_temporary_one(tmp_path: Path) -> None:
    """Names may be as long as the file system allows, in any script."""
    for name in ("n" * 255, "é" * 127):
        write_output(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_write_protection_is_respected(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming would get around it; the user meant it."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="it is write-protected"):
        write_output(source, b"new")
    assert source.read_bytes() == OLD


def test_an_open_descriptor_by_its_path(source: Path) -> None:
    """`/dev/fd/N` is the descriptor itself: what it stands at is kept and continued."""
    with source.open("ab") as file:
        write_output(f"/dev/fd/{file.fileno()}", b" and new")
    assert source.read_bytes() == OLD + b" and new"


def test_continuing_a_file(source: Path) -> None:
    """It is cut where it is asked for, and written in place."""
    inode = source.stat().st_ino
    with open_output(source, append_at=3) as output:
        output.write(b" end")
    assert source.read_bytes() == b"the end"
    assert source.stat().st_ino == inode


def test_a_placed_file_can_be_written_on(source: Path) -> None:
    """A stream shows from its first lines on, and what came before an error stays."""

    def stop_early() -> None:
        with open_output(source) as output:
            output.write(b"one\n")
            assert source.read_bytes() == OLD
            output.place()
            output.write(b"two\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_early()
    assert source.read_bytes() == b"one\ntwo\n"


def test_a_reader_that_left_is_told_as_such(tmp_path: Path) -> None:
    """The command line ends quietly then; it is not a fault of the output."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            write_output(f"/dev/fd/{writer}", b"new")
    finally:
        os.close(writer)


def test_standard_output_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks and test runners put a stream of their own there."""
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    write_output("-", b"new")
    assert stream.buffer.getvalue() == b"new"  # type: ignore[attr-defined]


def test_a_folder_is_regenerated_and_nothing_else_is_touched(tmp_path: Path) -> None:
    """Its own files are replaced; other files stay where they are."""
    folder = tmp_path / "a" / "b"
    write_folder(folder, {"main.c": b"1", "src/model.c": b"1"})
    (folder / "notes.txt").write_bytes(OLD)
    write_folder(folder, {"main.c": b"2", "src/model.c": b"2"})
    assert (folder / "main.c").read_bytes() == b"2"
    assert (folder / "notes.txt").read_bytes() == OLD
    assert (folder / LIST_NAME).is_file()


def test_what_is_the_users_to_edit_stays_edited(tmp_path: Path) -> None:
    """A regenerated folder has its example as the user left it, and the rest anew."""
    write_folder(tmp_path, {"main.c": b"1", "model.c": b"1"})
    (tmp_path / "main.c").write_bytes(OLD)
    for _ in range(2):
        kept = write_folder(tmp_path, {"main.c": b"2", "model.c": b"2"}, yours={"main.c"})
        assert kept == ("main.c",)
    assert (tmp_path / "main.c").read_bytes() == OLD
    assert (tmp_path / "model.c").read_bytes() == b"2"


@pytest.mark.parametrize("kind", ["foreign", "edited", "directory", "listed elsewhere"])
def test_a_folder_with_files_of_the_user(kind: str, tmp_path: Path) -> None:
    """They are named, and none of the new files is written."""
    if kind == "edited":
        write_folder(tmp_path, {"main.c": b"1"})
    if kind == "directory":
        (tmp_path / "main.c").mkdir()
    else:
        (tmp_path / "main.c").write_bytes(OLD)
    if kind == "listed elsewhere":
        (tmp_path / LIST_NAME).write_text("[]")
    with pytest.raises(OutputError, match=r"cannot write .*name an empty folder"):
        write_folder(tmp_path, {"a.c": b"2", "main.c": b"2"})
    assert not (tmp_path / "a.c").exists()
    assert kind == "directory" or (tmp_path / "main.c").read_bytes() == OLD


def test_a_folder_that_is_a_file(source: Path) -> None:
    """One sentence, whether it is the folder or one above it."""
    for folder in (source, source / "below"):
        with pytest.raises(OutputError, match="is not a directory; name another folder"):
            write_folder(folder, {"main.c": b"1"})
    assert source.read_bytes() == OLD
