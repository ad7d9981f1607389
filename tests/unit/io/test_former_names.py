"""What stood in `edgelstm.streams` is found there still."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import edgelstm.io.sources.csv_source
import edgelstm.streams
from edgelstm.io import files


def test_a_former_name_is_the_same_module() -> None:
    """Classes are the same under both names, so that `isinstance` and patches hold."""
    assert import_module("edgelstm.streams.files") is files
    former = import_module("edgelstm.streams.csv_source")
    assert former is edgelstm.io.sources.csv_source
    assert edgelstm.streams.csv_source is former  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statement",
    [
        "import edgelstm.streams.files",
        "from edgelstm.streams.replay import Replay",
        "from edgelstm.streams import columns",
        "import edgelstm.streams.lines as lines; lines.LineWriter",
    ],
)
def test_every_way_of_importing_works_first(statement: str) -> None:
    """Also where nothing of the package was imported before."""
    subprocess.run([sys.executable, "-W", "error", "-c", statement], check=True)


def test_importing_the_package_does_not_load_its_former_names() -> None:
    """Nobody pays for them who does not use them."""
    code = "import sys, edgelstm.io.stream_run; assert 'edgelstm.streams' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
