"""What tests of the monitor share: the demo model, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler.demo.monitored import compile_demo, prepare


@pytest.fixture(scope="session")
def tug_path(demo: tuple[Path, Path, dict[str, Path]]) -> Path:
    """The timed-up-and-go model with its description, in a file."""
    return demo[0]


@pytest.fixture
def tug(tug_path: Path) -> Artifact:
    """The same, loaded."""
    return Artifact.load(tug_path)


@pytest.fixture(scope="session")
def reference_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as a reference program, in a file."""
    path = tmp_path_factory.mktemp("reference") / "reference.edgelstm"
    compile_demo(path, "reference")
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Path]]:
    """Artifact decoding and recordings of `edgelstm monitor --demo`."""
    return prepare(tmp_path_factory.mktemp("demo"), trials=1, target="host")
