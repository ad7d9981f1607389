"""A loaded artifact, or recording, is a copy: what happens to the file changes nothing."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgelstm
from edgelstm.errors import ArtifactFormatError
from edgelstm.io.numpy_arrays import read_arrays
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, leaky_reference, needs_cc

FRAMES = np.arange(12, dtype=np.float32).reshape(6, 2)


def overwrite(path: Path) -> None:
    """As `cp` does: into the file that is there."""
    with open(path, "r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def truncate(path: Path) -> None:
    """Nothing is left of it."""
    with open(path, "r+b") as file:
        file.truncate(0)


@needs_cc
@pytest.mark.parametrize("harm", [overwrite, truncate, Path.unlink])
@pytest.mark.parametrize("when", ["before the session", "under the session"])
def test_native_code_and_weights_are_copies(
    harm: Callable[[Path], None], when: str, tmp_path: Path
) -> None:
    """Between load and session, and while it runs."""
    path = tmp_path / "leaky.edgelstm"
    leaky_native().save(path)
    artifact = edgelstm.load(path)
    session = artifact.session() if when == "under the session" else None
    harm(path)
    session = session or artifact.session()
    np.testing.assert_array_equal(session.run(FRAMES), leaky_expected(FRAMES))


def test_reference_weights_are_copies(tmp_path: Path) -> None:
    """The same for programs that NumPy runs."""
    path = tmp_path / "leaky.edgelstm"
    leaky_reference().save(path)
    session = edgelstm.load(path).session()
    overwrite(path)
    np.testing.assert_array_equal(session.run(FRAMES), leaky_expected(FRAMES))


def test_mapping_is_there_for_those_who_ask(tmp_path: Path) -> None:
    """`mmap=True` takes the bytes of the file itself, and `--mmap` computes the same."""
    path = tmp_path / "leaky.edgelstm"
    leaky_reference().save(path)
    mapped = edgelstm.load(path, mmap=True)
    np.testing.assert_array_equal(mapped.session().run(FRAMES), leaky_expected(FRAMES))
    place = Path("/proc/self/maps")
    if place.exists():
        assert str(path) in place.read_text()
        del mapped
        private = edgelstm.load(path)
        assert str(path) not in place.read_text()
        del private
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for options in ((), ("--mmap",)):
        result = invoke("run", path, "--input", tmp_path / "x.csv", *options)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1] == "2.0,-2.0"


def test_a_huge_file_that_is_no_artifact_is_not_read(tmp_path: Path) -> None:
    """The first bytes decide, and no more is copied; what claims to be an artifact has a limit."""
    path = tmp_path / "disk.img"
    with open(path, "wb") as file:
        file.truncate(1 << 31)
    tracemalloc.start()
    with pytest.raises(ArtifactFormatError, match="is not an edgelstm artifact"):
        edgelstm.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22
    with open(path, "r+b") as file:
        file.truncate((1 << 32) + 1)
    with pytest.raises(ArtifactFormatError, match="artifacts of up to 4294967296 are read"):
        edgelstm.load(path)


def test_recordings_are_copies(tmp_path: Path) -> None:
    """An NPY file that is cut while it is fed ends no process."""
    path = tmp_path / "x.npy"
    np.save(path, np.ones((100_000, 2), np.float32))
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from edgelstm.io.numpy_arrays import read_arrays\n"
        "path = Path(sys.argv[1]); (array,) = read_arrays(path, 'x').values()\n"
        "open(path, 'r+b').truncate(0); print(int(array.sum()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "200000")


def test_recordings_are_read_as_before(tmp_path: Path) -> None:
    """NPY and NPZ give the arrays that they hold."""
    np.save(tmp_path / "x.npy", FRAMES)
    np.savez(tmp_path / "x.npz", x=FRAMES)
    np.testing.assert_array_equal(read_arrays(tmp_path / "x.npy", "x")[""], FRAMES)
    np.testing.assert_array_equal(read_arrays(tmp_path / "x.npz", "x")["x"], FRAMES)
