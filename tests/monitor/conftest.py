"""What tests of the monitor share: the demo model, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import CHANNELS, MODEL_PATH, PHASES, RATE_HZ, UNITS


@pytest.fixture(scope="session")
def tug_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The timed-up-and-go model with its description, in a file."""
    model = compile_model(
        MODEL_PATH,
        rate_hz=RATE_HZ,
        columns=CHANNELS,
        units=list(UNITS),
        labels=list(PHASES),
        check=False,
        target_options={"cpu": "native"},
    )
    path = tmp_path_factory.mktemp("monitor") / "tug.edgelstm"
    model.save(path)
    return path


@pytest.fixture
def tug(tug_path: Path) -> Artifact:
    """The same, loaded."""
    return Artifact.load(tug_path)
