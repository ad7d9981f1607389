"""What `import edgelstm` loads: NumPy, and nothing that a device does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FORBIDDEN = {"click", "onnx", "onnxruntime", "onnx_ir", "tvm", "numba", "torch", "llvmlite"}


def modules_after(code: str) -> set[str]:
    script = f"import sys, json; {code}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in json.loads(result.stdout)}


def test_the_runtime_loads_numpy_only() -> None:
    """Neither click nor any compiler; NumPy is the only package besides the standard library."""
    loaded = modules_after("import edgelstm")
    assert not loaded & FORBIDDEN
    assert "edgelstm_compiler" not in loaded
    third_party = loaded - modules_after("import numpy") - set(sys.stdlib_module_names)
    assert third_party == {"edgelstm"}


def test_engines_load_numpy_only() -> None:
    """Making engines ready brings nothing else in."""
    code = "from edgelstm.engines import ENGINES; [make() for make in ENGINES.values()]"
    loaded = modules_after(code)
    assert not loaded & FORBIDDEN
    assert "edgelstm_compiler" not in loaded


def test_commands_of_the_runtime_load_no_compiler() -> None:
    """`run`, `inspect`, `bench` and `targets` work where only NumPy and click are installed."""
    code = "import edgelstm.cli, edgelstm.commands.run, edgelstm.commands.inspect"
    loaded = modules_after(f"{code}, edgelstm.commands.bench, edgelstm.commands.targets")
    assert not loaded & (FORBIDDEN - {"click"})
    assert "edgelstm_compiler" not in loaded
