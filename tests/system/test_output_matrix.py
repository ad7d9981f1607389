"""Every command with every kind of output path: nothing of the user's is lost."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm.cli import cli
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.simulated import SimulatedPatient, write_patient
from edgelstm_compiler.driver import compile_model
from tests.models import lstm_model
from tests.system.output_cases import CASES, FOLDERS, READ_ONLY, SINKS, STATE, Case, Desk
from tests.unit.runtime.command_line import invoke

REFUSED = (2, 5, 6, 7)
OLD = b"the user's own\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a desk, made once."""
    folder = tmp_path_factory.mktemp("made")
    proto = lstm_model(hidden=4, features=3, steps=None)
    onnx.save(
        proto,
        folder / "gait.onnx",
        save_as_external_data=True,
        location="gait.data",
        size_threshold=0,
    )
    compile_model(folder / "gait.onnx", target="reference").save(folder / "gait.edgelstm")
    compile_model(
        folder / "gait.onnx", target="reference", mode="call", shapes={"X": (5, 1, 3)}
    ).save(folder / "call.edgelstm")
    compile_model(folder / "gait.onnx", target="cortex-m4").save(folder / "m4.edgelstm")
    compile_model(folder / "gait.onnx", target="reference", quantize="w8").save(
        folder / "w8.edgelstm"
    )
    rows = np.random.default_rng(1).standard_normal((40, 3))
    np.savetxt(folder / "walk.csv", rows, delimiter=",", header="a,b,c", comments="")
    (folder / "said.toml").write_text('columns = ["a", "b", "c"]\n')
    np.savetxt(folder / "other.csv", rows, delimiter=",", header="a,b,c", comments="")
    np.savez(folder / "windows.npz", X=np.float32(rows[:5, None]))
    invoke(
        "calibrate", folder / "gait.onnx", "--input", folder / "walk.csv", "-o", folder / "c.json"
    )
    (folder / "trials").mkdir()
    labels = np.repeat(["sit", "stand", "walk", "turn"], 10)
    with open(folder / "trials" / "one.csv", "w") as file:
        file.write("a,b,c,label\n")
        for row, label in zip(rows.tolist(), labels, strict=True):
            file.write(",".join(map(str, row)) + f",{label}\n")
    (folder / "people.csv").write_text("recording,person,sex\none.csv,p1,f\n")
    with closing(open_store(folder / "ward.db")) as connection:
        write_patient(connection, SimulatedPatient("P1", (9.0, 8.0)), 1, 1.7e9)
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def desk(made: dict[str, bytes], tmp_path: Path) -> Desk:
    found = Desk(tmp_path)
    for name, data in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        found.inputs[name] = tmp_path / name
        found.contents[tmp_path / name] = data
    return found


def write(case: Case, desk: Desk, path: Path) -> Any:
    result = invoke(*case.words(desk), case.option, path)
    assert "Traceback" not in result.stderr
    assert desk.lost() == []
    unfinished = [p for p in desk.folder.rglob(".*") if p.name != ".edgelstm-files.json"]
    assert unfinished == []
    return result


def refuse(case: Case, desk: Desk, path: Path) -> None:
    result = write(case, desk, path)
    assert result.exit_code in REFUSED, result.output
    assert (
        "cannot write" in result.stderr
        or "is a directory" in result.stderr
        or "is a file" in (result.stderr)
    )


def accept(case: Case, desk: Desk, path: Path) -> None:
    result = write(case, desk, path)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("name", CASES)
def test_standard_output(name: str, desk: Desk) -> None:
    """What is written has it for itself; what is said goes to the standard error."""
    case = CASES[name]
    path = desk.folder / "file"
    accept(case, desk, path)
    result = write(case, desk, Path("-"))
    assert result.exit_code == 0
    assert result.stdout_bytes[:4] == path.read_bytes()[:4]
    assert result.stdout_bytes[-2:] == path.read_bytes()[-2:]
    assert not Path("-").exists()


def test_every_path_of_every_command_is_in_this_file() -> None:
    """A new command cannot be forgotten here."""
    known = {(case.of, case.option) for case in (*CASES.values(), *FOLDERS.values(), STATE)}
    known |= {(name, "--output") for name in NEW_ONLY}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            is_path = isinstance(parameter.type, click.Path) or "--output" in parameter.opts
            if is_path and (name, parameter.name) not in READ_ONLY | SINKS:
                assert any((name, option) in known for option in parameter.opts), parameter


NEW_ONLY: dict[str, Callable[[Desk, Path], Sequence[object]]] = {
    "sign": lambda d, path: ["sign", d["gait.edgelstm"], "--key", d.folder / "k", "-o", path],
    "sbom": lambda d, path: ["sbom", d["gait.edgelstm"], "-o", path],
    "snapshot": lambda d, path: [
        *("snapshot", "convert", d.folder / "old.snap", "--from", d["gait.edgelstm"]),
        *("--to", d["gait.edgelstm"], "-o", path),
    ],
    "trust": lambda d, path: ["trust", "new-key", path],
}
"""Commands whose outputs are keys, signatures and the like: they never replace a file."""


@pytest.mark.parametrize("name", NEW_ONLY)
def test_outputs_that_replace_nothing(name: str, desk: Desk) -> None:
    """A file that exists stays, be it an input or the user's own; a new one is written."""
    assert invoke("trust", "new-key", desk.folder / "k").exit_code == 0
    session = edgelstm.load(desk["gait.edgelstm"]).session()
    (desk.folder / "old.snap").write_bytes(bytes(session.snapshot()))
    own = desk.folder / "own"
    own.write_bytes(OLD)
    for path in (own, desk["gait.edgelstm"], desk["gait.onnx"]):
        result = invoke(*NEW_ONLY[name](desk, path))
        assert result.exit_code != 0, result.output
        assert "Traceback" not in result.stderr
    assert own.read_bytes() == OLD
    assert not desk.lost()
    assert invoke(*NEW_ONLY[name](desk, desk.folder / "new")).exit_code == 0
    assert (desk.folder / "new").stat().st_size


@pytest.mark.parametrize("name", CASES)
def test_what_is_read(name: str, desk: Desk) -> None:
    """Each input as output: itself, by a hard link, by symbolic links, by another spelling."""
    case = CASES[name]
    for i, read in enumerate(case.reads):
        hard, soft, chain = (desk.folder / f"{kind}{i}" for kind in ("hard", "soft", "chain"))
        os.link(desk[read], hard)
        soft.symlink_to(read)
        chain.symlink_to(soft)
        spelled = Path(os.path.relpath(desk[read]))
        for path in (desk[read], hard, soft, chain, spelled):
            refuse(case, desk, path)
            assert not path.is_symlink() or path in (soft, chain)


@pytest.mark.parametrize("name", CASES)
def test_files_and_links(name: str, desk: Desk) -> None:
    """An existing file is replaced and keeps its mode; links stay and their targets are written."""
    case = CASES[name]
    existing, target = desk.folder / "existing", desk.folder / "target"
    existing.write_bytes(OLD)
    existing.chmod(0o600)
    accept(case, desk, existing)
    assert existing.read_bytes() not in (OLD, b"")
    assert stat.S_IMODE(existing.stat().st_mode) == 0o600
    link = desk.folder / "link"
    link.symlink_to("target")  # dangling
    for _ in range(2):
        accept(case, desk, link)
        assert link.is_symlink()
        assert target.stat().st_size > 0
    assert existing.stat().st_size == target.stat().st_size or name in ("report", "demo")


@pytest.mark.parametrize("name", CASES)
def test_nodes(name: str, desk: Desk) -> None:
    """FIFO and device are written into, and are what they were."""
    case = CASES[name]
    fifo = desk.folder / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    accept(case, desk, fifo)
    reader.join()
    assert len(got[0]) > 10
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    node = os.stat("/dev/null")
    accept(case, desk, Path("/dev/null"))
    now = os.stat("/dev/null")
    assert (now.st_ino, now.st_rdev, now.st_mode) == (node.st_ino, node.st_rdev, node.st_mode)


@pytest.mark.parametrize("name", [*CASES, *FOLDERS])
def test_places_that_cannot_be_written(name: str, desk: Desk) -> None:
    """One sentence, nothing made."""
    case = {**CASES, **FOLDERS}[name]
    places = [Path("/dev/full")]
    if name in CASES:
        (desk.folder / "folder").mkdir()
        places += [desk.folder / "folder", desk.folder / "missing" / "new"]
        disk = desk.folder / "disk"
        try:
            os.mknod(disk, stat.S_IFBLK | 0o600, os.makedev(7, 250))
            places.append(disk)
        except PermissionError:
            pass
    else:
        places += [desk["walk.csv"], desk["walk.csv"] / "below"]
    for place in places:
        refuse(case, desk, place)
    assert not (desk.folder / "missing").exists()


@pytest.mark.parametrize("name", [*CASES, *FOLDERS])
def test_write_protection(name: str, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be written is not replaced either."""
    case = {**CASES, **FOLDERS}[name]
    path = desk.folder / "protected"
    if name in CASES:
        path.write_bytes(OLD)
    else:
        path.mkdir()
    allowed = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda p, mode: not (mode & os.W_OK and str(p).endswith("protected")) and allowed(p, mode),
    )
    refuse(case, desk, path)
    assert name in FOLDERS or path.read_bytes() == OLD


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name: str, desk: Desk) -> None:
    """A folder is made, and written again; files of the user that stand in the way are kept."""
    case = FOLDERS[name]
    folder = desk.folder / "a" / "b"
    accept(case, desk, folder)
    first = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert first
    accept(case, desk, folder)
    theirs = desk.folder / "theirs"
    for path in first:
        place = theirs / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not path.name.startswith("."):
            place.write_bytes(OLD)
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    result = write(case, desk, theirs)
    assert result.exit_code in (0, *REFUSED)
    assert {path: path.read_bytes() for path in before} == before
    assert result.exit_code or name == "compile --dump"


def test_state_files(desk: Desk) -> None:
    """A state is read again: it takes a file of its own, and nothing but a state is replaced."""
    foreign, folder, fifo = (desk.folder / name for name in ("foreign", "folder", "fifo"))
    foreign.write_bytes(OLD)
    folder.mkdir()
    os.mkfifo(fifo)
    aliases = []
    for i, read in enumerate(STATE.reads):
        aliases += [desk[read], desk.folder / f"hard{i}", desk.folder / f"soft{i}"]
        os.link(desk[read], aliases[-2])
        aliases[-1].symlink_to(read)
    output = desk.folder / "out.csv"
    nodes = (fifo, Path("/dev/null"), Path("/dev/full"))
    for path in (
        *aliases,
        foreign,
        folder,
        *nodes,
        output,
        desk.folder / "no" / "state",
        Path("-"),
    ):
        result = write(STATE, desk, path)
        assert result.exit_code == 6, path
        assert not output.exists()
        assert foreign.read_bytes() == OLD
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    link = desk.folder / "link"
    link.symlink_to("target")
    accept(STATE, desk, link)
    target = desk.folder / "target"
    target.chmod(0o600)
    accept(STATE, desk, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_folder_with_the_inputs_themselves(desk: Desk) -> None:
    """The working folder is a fine place for a project as long as no name is taken."""
    for case in FOLDERS.values():
        result = write(case, desk, desk.folder)
        assert result.exit_code == 0, result.stderr
