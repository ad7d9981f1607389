"""Reading, inspecting, exporting, signing and listing an artifact execute nothing of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import MODEL_PATH
from tests.unit.runtime.toy_models import compile_c, needs_cc

pytestmark = [pytest.mark.tvm, needs_cc]
pytest.importorskip("tvm")

HOSTILE = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void at_load(void) {
  int file = open(MARK, O_WRONLY | O_CREAT, 0600);
  if (file >= 0) close(file);
}
"""
TRACE = """
import json, os, sys
loaded = []
def seen(name, args):
    if name == "ctypes.dlopen":
        loaded.append(str(args[0]))
sys.addaudithook(seen)
from edgelstm.cli import cli
try:
    code = cli.main(json.loads(sys.argv[1]), standalone_mode=False)
except BaseException as error:
    code = f"{type(error).__name__}: {error}"
mapped = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
paths = sorted({fields[5].strip() for fields in mapped if "x" in fields[1] and len(fields) > 5})
anonymous = sum("x" in fields[1] and len(fields) < 6 for fields in mapped)
print(json.dumps({"code": code, "loaded": loaded, "mapped": paths, "anonymous": anonymous}),
      file=sys.stderr)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A compiled model whose code leaves a mark when it is loaded, and that mark's place."""
    folder = tmp_path_factory.mktemp("hostile")
    mark = folder / "mark"
    code = compile_c(HOSTILE, f'-DMARK="{mark}"', "-lc")
    good = compile_model(MODEL_PATH, check=False)
    sections: dict[str, Any] = {
        name: code if name.startswith(("code/", "object/")) else data
        for name, data in good.container.sections.items()
    }
    path = folder / "hostile.edgelstm"
    Artifact(Container(good.manifest, sections)).save(path)
    return path, mark


def traced(arguments: Sequence[object], folder: Path) -> dict[str, Any]:
    """Run a command in a process of its own: how it ended, and what it mapped executable."""
    command = [sys.executable, "-c", TRACE, json.dumps([str(item) for item in arguments])]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGELSTM_")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    report: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    report["foreign"] = [
        path
        for path in report["mapped"]
        if path.startswith("/memfd:") or "edgelstm-" in path or path.endswith("(deleted)")
    ]
    return report


COMMANDS = {
    "inspect": ["inspect", "{artifact}"],
    "inspect --json": ["inspect", "{artifact}", "--json"],
    "export-c": ["export-c", "{artifact}", "-o", "c"],
    "sbom": ["sbom", "{artifact}"],
    "sign": ["sign", "{artifact}", "--key", "key"],
    "trust verify": ["trust", "verify", "{artifact}", "--directory", "trusted"],
    "snapshot convert": ["snapshot", "convert", "x", "--from", "{artifact}", "--to", "{artifact}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_an_artifact_is_mapped_executable(
    command: str, hostile: tuple[Path, Path], tmp_path: Path
) -> None:
    """No dlopen, no executable mapping, no constructor: whatever the code section holds."""
    pytest.importorskip("cryptography")
    pytest.importorskip("cyclonedx")
    path, mark = hostile
    if command in ("sign", "trust verify"):
        assert traced(["trust", "new-key", "key"], tmp_path)["code"] is None
    if command == "trust verify":
        assert traced(["sign", path, "--key", "key"], tmp_path)["code"] is None
        traced(["trust", "add", "key.pub", "--directory", "trusted"], tmp_path)
    report = traced([word.format(artifact=path) for word in COMMANDS[command]], tmp_path)
    if command == "snapshot convert":
        assert "StreamError" in str(report["code"])  # x is no snapshot
    else:
        assert report["code"] is None
    assert [name for name in report["loaded"] if "/fd/" in name or "edgelstm" in name] == []
    assert report["foreign"] == []
    assert report["anonymous"] == 0
    assert not mark.exists()


def test_running_executes_it(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """The trace sees what it should: `run` loads the code, and the mark is there."""
    path, mark = hostile
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f\n0,0,0,0,0,0\n")
    report = traced(["run", path, "--input", "x.csv"], tmp_path)
    assert "ArtifactFormatError" in str(report["code"])  # it has no step
    assert any("/fd" in name for name in report["loaded"])
    assert mark.exists()
    mark.unlink()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is for x86-64")
@pytest.mark.usefixtures("every_instruction_set")
def test_a_recording_is_exported_by_emulation(tmp_path: Path) -> None:
    """More steps than were recorded come from an emulated processor, not from this machine's."""
    pytest.importorskip("unicorn")
    compile_model(MODEL_PATH, check=False).save(tmp_path / "demo.edgelstm")
    command = ["export-c", "demo.edgelstm", "-o", "c", "--steps", "40", "--json"]
    report = traced(command, tmp_path)
    assert report["code"] is None
    assert [name for name in report["loaded"] if "/fd/" in name] == []
    assert report["foreign"] == []
