"""Damaged artifacts as users meet them: one message, exit code 5, never a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgelstm
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_native, leaky_reference, needs_cc

COMMANDS = [["inspect"], ["run", "--input", "none.csv"], ["bench"]]


@pytest.fixture(params=[pytest.param(leaky_native, marks=needs_cc), leaky_reference])
def image(request: pytest.FixtureRequest) -> bytes:
    data: bytes = request.param().container.to_bytes()
    return data


def test_every_region_is_covered(image: bytes, tmp_path: Path) -> None:
    """A flipped bit in header, index, each section and padding is found by load."""
    path = tmp_path / "damaged.edgelstm"
    places = {*range(0, len(image), 37), *range(0, 80), len(image) - 1}
    for place in sorted(places):
        damaged = bytearray(image)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(edgelstm.ArtifactFormatError, match=r"damaged\.edgelstm"):
            edgelstm.load(path)


def test_every_length_is_covered(image: bytes, tmp_path: Path) -> None:
    """A file cut off anywhere, or with a tail, is found by load."""
    path = tmp_path / "cut.edgelstm"
    for size in [*range(0, 80), *range(80, len(image), 499), len(image) - 1]:
        path.write_bytes(image[:size])
        with pytest.raises(edgelstm.ArtifactFormatError, match=r"cut\.edgelstm"):
            edgelstm.load(path)
    path.write_bytes(image + b"tail")
    with pytest.raises(edgelstm.ArtifactFormatError, match="followed by"):
        edgelstm.load(path)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("content", [b"", b"text", b"\x89ELSTM\x1a\n", None])
def test_commands_say_it_in_one_line(
    command: list[str], content: bytes | None, tmp_path: Path
) -> None:
    """Empty, foreign and cut files and a directory: exit code 5 and one line."""
    path = tmp_path / "wrong.edgelstm"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    result = invoke(command[0], path, *command[1:])
    assert result.exit_code == 5
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    as_json = invoke(command[0], path, *command[1:], "--json")
    assert json.loads(as_json.stderr)["error"]["exit_code"] == 5


@needs_cc
def test_a_file_replaced_while_in_use_stays_usable(tmp_path: Path) -> None:
    """Saving over a loaded artifact leaves running sessions on the old one."""
    path = tmp_path / "leaky.edgelstm"
    leaky_native(0.5).save(path)
    session = edgelstm.load(path).session()
    leaky_native(0.25).save(path)
    session.step([0.5, 0.0])
    assert float(session.step([0.0, 0.0])[0]) == 0.5
    fresh = edgelstm.load(path).session()
    fresh.step([0.5, 0.0])
    assert float(fresh.step([0.0, 0.0])[0]) == 0.25


@needs_cc
def test_the_forced_instruction_set_reaches_the_command_line(tmp_path: Path) -> None:
    """EDGELSTM_ISA names code that the artifact lacks: exit code 4, with what there is."""
    path = tmp_path / "leaky.edgelstm"
    leaky_native().save(path)
    environment = {
        **os.environ,
        "EDGELSTM_ISA": "quantum",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "edgelstm.cli", "bench", str(path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert "EDGELSTM_ISA=quantum" in result.stderr
