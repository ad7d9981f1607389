"""The commands on ARM artifacts: verify and bench emulated, inspect, targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm.cli import cli
from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import MODEL_PATH
from edgelstm_compiler.quant.calibrate import calibrate
from tests.arm.integer_models import demo_graph
from tests.quantized_models import recordings

pytestmark = pytest.mark.tvm
pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
pytest.importorskip("tvm")


@pytest.fixture(scope="module")
def armv7(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("armv7") / "demo.edgelstm"
    compile_model(MODEL_PATH, target="armv7", check=False).save(path)
    return str(path)


@pytest.mark.parametrize("isa", [[], ["armv7-neon"]])
def test_verify(armv7: str, isa: list[str]) -> None:
    """`--emulate` runs the best code, or the one named."""
    options = ["--model", str(MODEL_PATH), "--frames", "40", "--emulate", *isa]
    done = CliRunner().invoke(cli, ["verify", armv7, *options])
    assert done.exit_code == 0, done.output
    assert done.output.endswith("PASS\n")


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("aarch64") / "demo.edgelstm"
    given = calibrate(demo_graph(), recordings(demo_graph(), count=1, frames=60))
    compile_model(
        MODEL_PATH, target="aarch64", quantize="int8-full", calibration=given, check=False
    ).save(path)
    return str(path)


@pytest.mark.parametrize("isa", ["aarch64-dotprod", "aarch64"])
def test_verify_integers(integers: str, isa: str) -> None:
    """int8-full passes only bit for bit; `bench` shows what dot products save."""
    options = ["--model", str(MODEL_PATH), "--frames", "40", "--emulate", isa, "--json"]
    done = CliRunner().invoke(cli, ["verify", integers, *options])
    assert done.exit_code == 0, done.output
    report = json.loads(CliRunner().invoke(cli, ["bench", integers, "--emulate", "--json"]).stdout)
    best, plain = report["isas"]
    assert [best["isa"], plain["isa"]] == ["aarch64-dotprod", "aarch64"]
    assert best["instructions"] < 0.8 * plain["instructions"]


def test_verify_without_emulation_says_why_not(armv7: str) -> None:
    """Exit code 4 and the machine that the code is for."""
    done = CliRunner().invoke(cli, ["verify", armv7, "--model", str(MODEL_PATH)])
    assert done.exit_code == 4
    assert "code for arm" in done.stderr


def test_an_unknown_instruction_set_is_named(armv7: str) -> None:
    """With those that there are."""
    done = CliRunner().invoke(
        cli, ["verify", armv7, "--model", str(MODEL_PATH), "--emulate", "z80"]
    )
    assert done.exit_code == 4
    assert "armv7-vfpv4, armv7-neon" in done.stderr


def test_bench(armv7: str) -> None:
    """Instructions of every instruction set, as text and as JSON."""
    shown = CliRunner().invoke(cli, ["bench", armv7, "--emulate"])
    assert "armv7-neon" in shown.output
    report = json.loads(CliRunner().invoke(cli, ["bench", armv7, "--emulate", "--json"]).stdout)
    best, plain = report["isas"]
    assert 0.5 < best["instructions_per_mac"] < plain["instructions_per_mac"] < 2
    assert best["stack_bytes"] > 0


def test_inspect_accounts_for_flash_and_ram(tmp_path: Path) -> None:
    """Of a microcontroller: sums that add up, and a stack bound."""
    path = tmp_path / "demo.edgelstm"
    compile_model(MODEL_PATH, target="cortex-m33", check=False).save(path)
    report = json.loads(CliRunner().invoke(cli, ["inspect", str(path), "--json"]).stdout)
    (device,) = report["devices"]
    parts = ("text", "rodata", "weights", "state_init")
    assert device["flash"] == sum(device[part] for part in parts)
    assert device["ram"] == device["state"] + device["scratch"]
    assert 0 < device["stack"] < 1024
