"""The file of a live run: what it says, and that whatever is wrong in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.errors import RecordingError
from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.settings import QueuePolicy
from edgelstm.io.toml_settings import read_settings
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference

WARD = """
# a ward
artifact = "phase.edgelstm"
inputs = ["udp://:9000?format=ndjson", "walk.csv"]
outputs = ["store:ward.db", {uri = "mqtt://broker/ward", qos = 1, retain = true}]
columns = ["ax", "ay"]
rate = 100
on-bad-sample = "reset"
silence = "500ms"
queue = 1000
queue_policy = "drop-oldest"

[[stream]]
name = "bed-1"
patient = "P-017"
inputs = ["serial:/dev/ttyUSB0"]

[[stream]]
name = "bed-2"
inputs = [{uri = "mqtt://broker/bed2", columns = ["ax", "ay"]}]
"""


def _read(folder: Path, text: str) -> object:
    path = folder / "ward.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def test_a_file_says_all_of_a_run(tmp_path: Path) -> None:
    """Addresses as text or as tables, paths relative to the file, words and numbers."""
    path = tmp_path / "ward.toml"
    path.write_text(WARD, encoding="utf-8")
    found = read_settings(path)
    assert found.artifact == tmp_path / "phase.edgelstm"
    assert found.outputs == (
        f"store:{tmp_path}/ward.db",
        "mqtt://broker/ward?qos=1&retain=yes",
    )
    main, one, two = found.streams
    assert main.inputs == ("udp://:9000?format=ndjson", f"{tmp_path}/walk.csv")
    assert (one.name, one.patient, one.inputs) == ("bed-1", "P-017", ("serial:/dev/ttyUSB0",))
    assert two.inputs == ("mqtt://broker/bed2?columns=ax,ay",)
    assert found.values == {
        "columns": ("ax", "ay"),
        "rate_hz": 100.0,
        "policy": BadSamplePolicy.RESET,
        "silence_s": 0.5,
        "queue_samples": 1000,
        "queue_policy": QueuePolicy.DROP_OLDEST,
    }


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("rate = \n", 1, "no TOML"),
        ("\n\nrate = 'fast'\n", 3, "rate: is 'fast', not a number above 0"),
        ("rate = true\n", 1, "not a number"),
        ("rate = -1\n", 1, "not a number above 0"),
        ("rate = 100\nrat = 1\n", 2, "rat: is not known here; known are artifact, inputs"),
        ("inputs = 5\n", 1, "inputs: is 5, not a list of addresses"),
        ("# x\ninputs = ['a', 5]\n", 2, "inputs: holds 5, neither an address"),
        ("queue = 0\n", 1, "queue: is 0, not an integer from 1"),
        ("silence = '5 parsecs'\n", 1, "not a duration such as 0.5, 500ms"),
        ("on-bad-sample = 'ignore'\n", 1, "not one of raise, skip, hold, reset"),
        ("[[stream]]\nname = 'a'\ninputs = ['-']\n\n[[stream]]\nname = 3\ninputs=['-']", 6, "name"),
        ("[[stream]]\ninputs = ['-']\n[[stream]]\nname = 'b'\n", 3, "a stream has inputs"),
        ("[stream]\nname = 'b'\n", 1, "not a list of tables: write [[stream]]"),
        ("[[stream]]\ninputs = ['-']\nbed = 1\n", 3, "stream[1].bed: is not known here"),
        ("text = '''\nrate = 1\n'''\nrate = 'x'\n", 1, "text: is not known here"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    """Found, expected, and where."""
    with pytest.raises(RecordingError) as caught:
        _read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/ward.toml:{line}: ")
    assert message in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    """One error each."""
    path = tmp_path / "ward.toml"
    path.write_bytes(b"rate = 1\nname = '\xff'\n")
    with pytest.raises(RecordingError, match="not UTF-8"):
        read_settings(path)
    with pytest.raises(RecordingError, match="cannot read"):
        read_settings(tmp_path / "other.toml")


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    """What both say is as the command line has it; the rest is the file's."""
    leaky_reference().save(tmp_path / "leaky.edgelstm")
    (tmp_path / "walk.csv").write_text("a,b,c\n1,2,3\n4,,6\n")
    (tmp_path / "ward.toml").write_text(
        "artifact = 'leaky.edgelstm'\ninputs = ['file:walk.csv']\noutputs = ['file:a.ndjson']\n"
        "columns = ['a', 'c']\non-bad-sample = 'raise'\n"
    )
    result = invoke("run", "--config", tmp_path / "ward.toml")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "a.ndjson").read_text().count("\n") == 2
    options = ["--columns", "a,b", "-o", f"file:{tmp_path}/b.ndjson"]
    result = invoke("run", "--config", tmp_path / "ward.toml", *options)
    assert result.exit_code == RecordingError.exit_code
    assert "sample 1" in result.stderr
    assert (tmp_path / "b.ndjson").read_text().count("\n") == 1


def test_a_file_runs_a_recording_as_the_command_line_does(tmp_path: Path) -> None:
    """Plain paths are recordings, not live runs, wherever they stand."""
    leaky_reference().save(tmp_path / "leaky.edgelstm")
    (tmp_path / "walk.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "ward.toml").write_text("inputs = 'walk.csv'\noutputs = 'out.csv'\n")
    result = invoke("run", tmp_path / "leaky.edgelstm", "--config", tmp_path / "ward.toml")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out.csv").read_text() == "y[0],y[1]\n2.0,-2.0\n7.0,-5.0\n"


def test_without_an_artifact_the_usage_is_said() -> None:
    """As click says it of a missing argument."""
    result = invoke("run")
    assert result.exit_code == 2
    assert "Missing argument 'ARTIFACT'" in result.stderr
