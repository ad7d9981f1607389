"""Artifacts that earlier versions wrote run for ever, and give the bits that they gave then."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.engines.native import ISA_VARIABLE, code_variants
from edgelstm.errors import TargetUnavailableError
from edgelstm_compiler.emulation.kernel import emulate
from tests.stored.make import SNAPSHOT_AT

HERE = Path(__file__).parent
STORED = sorted(path.relative_to(HERE) for path in HERE.glob("*/*.edgelstm.xz"))
STREAMS = [path for path in STORED if path.name.startswith("stream")]


def results_of(path: Path) -> dict[str, NDArray[Any]]:
    """What the artifact computed when it was new."""
    name = path.name.removesuffix(".edgelstm.xz")
    with np.load(HERE / path.parent / f"{name}.npz") as stored:
        return dict(stored)


def variants_of(paths: list[Path]) -> list[tuple[Path, str]]:
    """Every artifact with each instruction set whose outputs were kept."""
    return [
        (path, key.removeprefix("outputs/"))
        for path in paths
        for key in results_of(path)
        if key.startswith("outputs/")
    ]


def open_stored(path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The artifact on that instruction set, emulated where it is not this machine's."""
    container = Container.parse(lzma.decompress((HERE / path).read_bytes()))
    artifact = Artifact(container)
    if isa == "numpy":
        return artifact
    variant = next(v for v in code_variants(container) if v.isa == isa)
    if variant.obstacle() is None:
        monkeypatch.setenv(ISA_VARIABLE, isa)
        return artifact
    try:
        return emulate(artifact, isa)
    except TargetUnavailableError as error:
        pytest.skip(f"{variant.obstacle()}; {error}")


def assert_as_then(found: NDArray[Any], then: NDArray[Any], path: Path, isa: str) -> None:
    """Bit for bit; sums of floats in NumPy, whose order is that of its BLAS, to the last places."""
    if isa == "numpy" and "int8-full" not in path.name:
        np.testing.assert_allclose(found, then, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, then)


@pytest.mark.parametrize(("path", "isa"), variants_of(STREAMS), ids=str)
def test_stream(path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream gives what it gave then, in one block and step by step."""
    results = results_of(path)
    artifact = open_stored(path, isa, monkeypatch)
    frames = results["frames"]
    assert_as_then(artifact.session().run(frames), results[f"outputs/{isa}"], path, isa)
    session = artifact.session()
    steps = np.stack([np.array(session.step(frame)) for frame in frames])
    assert_as_then(steps, results[f"outputs/{isa}"], path, isa)


@pytest.mark.parametrize(("path", "isa"), variants_of(STREAMS), ids=str)
def test_snapshot(path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of then is taken, and the stream goes on as it went on then."""
    results = results_of(path)
    session = open_stored(path, isa, monkeypatch).session()
    session.restore(results[f"snapshot/{isa}"].tobytes())
    rest = session.run(results["frames"][SNAPSHOT_AT:])
    assert_as_then(rest, results[f"outputs/{isa}"][SNAPSHOT_AT:], path, isa)


@pytest.mark.parametrize(
    ("path", "isa"), variants_of([path for path in STORED if path not in STREAMS]), ids=str
)
def test_call(path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole call gives what it gave then."""
    results = results_of(path)
    session = open_stored(path, isa, monkeypatch).session()
    assert_as_then(session.call(results["frames"]), results[f"outputs/{isa}"], path, isa)


@pytest.mark.parametrize("path", STORED, ids=str)
def test_file(path: Path, tmp_path: Path) -> None:
    """The file loads, and says of itself what it said."""
    file = tmp_path / "stored.edgelstm"
    file.write_bytes(lzma.decompress((HERE / path).read_bytes()))
    artifact = edgelstm.load(file)
    assert artifact.name == "stored"
    assert artifact.manifest["edgelstm"] == path.parent.name
