"""A processor is one entry of a table: what needs facts of it finds them there."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelstm.cli import cli
from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler import compile_model
from edgelstm_compiler import target as target_module
from edgelstm_compiler.emulation.kernel import count_cost
from edgelstm_compiler.processor import SpeedRule
from edgelstm_compiler.quant_report.speed import rule_of
from edgelstm_compiler.target import find_processor
from edgelstm_targets.processors import table
from edgelstm_targets.processors.table import PROCESSORS
from tests.arm.c_project import export
from tests.models import CellCase, cell_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

NAME = "cortex-m4-imagined"


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> str:
    """A further processor."""
    m4 = PROCESSORS["cortex-m4"]
    assert m4.toolchain is not None
    new = replace(
        m4,
        target=NAME,
        sets=(replace(m4.sets[0], name=NAME),),
        toolchain=replace(m4.toolchain, gcc="-mcpu=imagined", zephyr=("CPU_IMAGINED",)),
        speed=(SpeedRule("imagined", {"fp32": 1}, 1, 1, 1, 1),),
    )
    monkeypatch.setattr(table, "PROCESSORS", {**PROCESSORS, NAME: new})
    return NAME


def test_one_entry_is_a_target(entry: str, tmp_path: Path) -> None:
    """Listed, compiled for, emulated, exported, predicted, by its entry alone."""
    pytest.importorskip("unicorn")
    listed = json.loads(CliRunner().invoke(cli, ["targets", "--json"]).stdout)["targets"]
    assert entry in [each["name"] for each in listed]
    model = cell_model(CellCase(hidden=4, features=3, steps=1))
    artifact = compile_model(model, target=entry, mode="stream", name="net", check=False)
    assert count_cost(artifact).instructions > 0
    folder = export(artifact, tmp_path / "zephyr", package="zephyr")
    assert "depends on CPU_IMAGINED" in (folder / "Kconfig").read_text()
    folder = export(artifact, tmp_path / "cmake")
    assert "Compile with -mcpu=imagined" in (folder / "CMakeLists.txt").read_text()
    rule = rule_of(entry)
    assert rule is not None
    assert rule.name == "imagined"
    host = compile_model(model, target="host", mode="stream", check=False)
    with pytest.raises(CapabilityError, match=f"Arduino .*--target .*{NAME}"):
        export(host, tmp_path / "arduino", package="arduino")


def test_code_without_an_entry_is_not_exported(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags are not left out in silence where the processor's facts are missing."""
    model = cell_model(CellCase(hidden=4, features=3, steps=1))
    artifact = compile_model(model, target=entry, mode="stream", check=False)
    monkeypatch.setattr(table, "PROCESSORS", PROCESSORS)
    with pytest.raises(TargetUnavailableError, match=r"no installed target .*imagined.* cortex-m4"):
        export(artifact, tmp_path / "cmake")


def test_every_set_of_code_has_one_processor() -> None:
    """Sections of artifacts lead to facts: a name is not used by processors that differ in them."""
    for processor in PROCESSORS.values():
        for name in processor.code_names:
            found = find_processor(name)
            assert found is not None
            assert (found.toolchain, found.emulator) == (processor.toolchain, processor.emulator)
        assert processor.emulator or processor.without_emulator


def test_a_family_that_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """`edgelstm targets` says of a plug-in that it fails, and why."""
    broken = EntryPoint("bad", "edgelstm_gone:Family", target_module.FAMILY_GROUP)
    groups = {target_module.FAMILY_GROUP: [broken]}
    monkeypatch.setattr(
        "edgelstm.commands.targets.entry_points", lambda group: groups.get(group, [])
    )
    (found,) = json.loads(CliRunner().invoke(cli, ["targets", "--json"]).stdout)["targets"]
    assert found["name"] == "bad"
    assert "pip install" in found["reason"]
