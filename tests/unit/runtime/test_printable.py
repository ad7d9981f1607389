"""What comes from files steers no terminal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm.printable import printable, printable_json
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import LEAKY, leaky_program, leaky_reference

CONTROLS = "\x00\x07\x08\x1b[2J\x7f\x9b31m\u202e\u2066\u200f\u2028\ufeff\U000e0041"


def hostile() -> Artifact:
    """Names of everything that is shown, full of controls; the model runs."""
    name = f"x{CONTROLS}"
    (spec,) = LEAKY.inputs
    program = leaky_program()
    program["inputs"][0]["name"] = name
    return leaky_reference(
        signature=dataclasses.replace(
            LEAKY, inputs=(dataclasses.replace(spec, name=name, unit=f"m{CONTROLS}\n"),)
        ),
        target=f"reference{CONTROLS}",
        sections={"program": json.dumps(program).encode(), f"more{CONTROLS}": b"x"},
        source={"sha256": "", "file": f"f{CONTROLS}\nforged: line", "producer": CONTROLS},
        layers=[{"name": f"l{CONTROLS}\n", "kind": CONTROLS, "params": 1, "macs": 1}],
    )


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_inspect_prints_no_controls(options: tuple[str, ...], tmp_path: Path) -> None:
    """Names, units, layers, sections: what would steer a terminal is written out."""
    path = tmp_path / "hostile.edgelstm"
    hostile().save(path)
    result = invoke("inspect", path, *options)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert "forged: line" not in [line.strip() for line in result.stdout.splitlines()]
    if options:
        assert json.loads(result.stdout)["inputs"][0]["name"] == f"x{CONTROLS}"
    else:
        assert r"x\x00\x07\x08\x1b[2J\x7f\x9b31m\u202e" in result.stdout


@pytest.mark.parametrize("name", ["y\x1b[2J.csv", "\x9b31m"])
def test_errors_print_no_controls(name: str, tmp_path: Path) -> None:
    """Neither those that name a file's content, nor those that name a file."""
    path = tmp_path / "hostile.edgelstm"
    hostile().save(path)
    (tmp_path / "x.csv").write_text("a\x1b]0;title\x07,b\n1,2\n")
    (tmp_path / "z.edgelstm").write_bytes(b"\x1b[2J" * 40)
    for command in (
        ("run", path, "--input", tmp_path / name),
        ("run", path, "--input", tmp_path / "x.csv", "--columns", name),
        ("inspect", tmp_path / "z.edgelstm"),
        ("inspect", tmp_path / "none.onnx", "--shape", name),
        (name,),
        ("run", f"--{name}"),
    ):
        result = invoke(*command)
        assert result.exit_code != 0
        assert (result.stdout + result.stderr).replace("\n", "").isprintable(), command


def test_other_text_stays_as_it_is() -> None:
    """Letters of all scripts, units and line ends."""
    for text in ("Größe in m/s², 速度, скорость", "two\nlines", ""):
        assert printable(text) == text
        assert printable_json(text) == text
    assert printable("a\nb", keep="") == r"a\x0ab"


def test_escaped_json_means_what_it_meant() -> None:
    """Beyond the basic plane, too."""
    data = {"name": CONTROLS + '\n"\\'}
    text = printable_json(json.dumps(data, ensure_ascii=False))
    assert text.isprintable()
    assert json.loads(text) == data
