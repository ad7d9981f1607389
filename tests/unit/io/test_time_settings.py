"""Time, units and decoding as the command line and a file say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.commands.run_settings import given_settings
from edgelstm.errors import RecordingError
from edgelstm.io.time_settings import TimeSettings
from edgelstm.io.toml_settings import read_settings
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference

WARD = """
artifact = "a.edgelstm"
inputs = ["udp://:9000", "udp://:9001"]
on-gap = "interpolate"
gap_limit = 2
reorder = 0.1
silent = 0.8
scale = {acc_x = 9.81}

[offset]
wrist = -0.02

[decode.smoothing]
seconds = 0.3
"""


def read(folder: Path, text: str) -> object:
    path = folder / "ward.toml"
    path.write_text(text, encoding="utf-8")
    return given_settings((), (), {}, path).settings.time


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    """Keys with hyphens or underscores, tables and single values."""
    found = read(tmp_path, WARD)
    assert isinstance(found, TimeSettings)
    assert found.on_gap == "interpolate"
    assert (found.gap_limit_s, found.reorder_s, found.silent_s) == (2.0, 0.1, 0.8)
    assert found.scale == {"acc_x": 9.81}
    assert found.offsets_s == {"wrist": -0.02}
    assert found.decode is not None
    assert found.decode.smoothing is not None
    assert found.decode.smoothing.seconds == pytest.approx(0.3)


def test_the_command_line_comes_first(tmp_path: Path) -> None:
    """One by one: what it does not say, the file says."""
    path = tmp_path / "ward.toml"
    path.write_text(WARD, encoding="utf-8")
    found = given_settings((), (), {"time": {"on_gap": "hold"}}, path).settings.time
    assert found.on_gap == "hold"
    assert found.gap_limit_s == pytest.approx(2.0)


def test_a_recipe_stands_beside_the_file(tmp_path: Path) -> None:
    """Its path is relative to the file's folder, and its faults have its own lines."""
    (tmp_path / "phases.toml").write_text("[phases]\nlag = 1\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"phases\.toml:2: phases\.lag: is not known"):
        read(tmp_path, 'decode = "phases.toml"\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\non-gap = 'guess'", r"ward\.toml:2: on-gap: is 'guess', not one of feed, hold"),
        ("gap-limit = -1", r"ward\.toml:1: gap-limit: is -1"),
        ("resample = 1", r"ward\.toml:1: resample: is 1, not true or false"),
        ("[offset]\nwrist = 'x'", r"ward\.toml:2: offset\.wrist: is 'x', not a number"),
        ("scale = 0", r"ward\.toml:1: scale: is 0, not a number"),
        ("[decode.phases]\n\nfloor = 7", r"ward\.toml:3: decode\.phases\.floor: is 7"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """File, line, key, and what was expected."""
    with pytest.raises(RecordingError, match=message):
        read_settings(write(tmp_path, text))


def write(folder: Path, text: str) -> Path:
    """A file of settings."""
    path = folder / "ward.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--offset", "wrist=soon"], "--offset wrist=soon: seconds"),
        (["--scale", "a="], "is no factor"),
        (["--scale", "zz=2"], "no column 'zz'"),
        (["--on-gap", "hold"], "rate is not known: give --rate"),
        (["--resample"], "rate is not known: give --rate"),
        (["--decode", "none.toml"], "cannot read none.toml"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    tmp_path: Path, options: list[str], message: str
) -> None:
    """In one line, with what would mean something."""
    artifact, walk = tmp_path / "a.edgelstm", tmp_path / "walk.csv"
    leaky_reference().save(artifact)
    walk.write_text("x[0],x[1]\n1,2\n", encoding="utf-8")
    result = invoke("run", artifact, "-i", f"file:{walk}", "-o", f"file:{tmp_path}/o.csv", *options)
    assert result.exit_code == 6, result.stderr
    assert message in result.stderr
