"""Models that a framework writes in a Python of its own, and what edgelstm makes of them.

The framework's Python is this one, or the one that `EDGELSTM_TORCH_PYTHON` or
`EDGELSTM_KERAS_PYTHON` names; where it lacks a package, its tests are skipped by that name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelstm_compiler.driver import compile_model

HERE = Path(__file__).parent

FIND = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if not u.find_spec(n)))"


@cache
def python_with(variable: str, *packages: str) -> str:
    """A Python that has packages; skips where there is none."""
    python = os.environ.get(variable, sys.executable)
    run = subprocess.run(
        [python, "-c", FIND, *packages], capture_output=True, text=True, check=True
    )
    missing = run.stdout.split()
    if missing:
        pytest.skip(f"{missing[0]} is not installed: the extra exporters, or {variable}")
    return python


@dataclass(frozen=True, slots=True)
class Exported:
    """What a script wrote.

    Args:
        folder: NAME.onnx and NAME.npz of every model.
        failures: by name, what the framework itself does not export.
    """

    folder: Path
    failures: Mapping[str, str]

    def path(self, name: str) -> Path:
        """A model; fails with what the framework said where there is none."""
        assert name not in self.failures, self.failures[name]
        return self.folder / f"{name}.onnx"

    def arrays(self, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Inputs of a model, and what the framework computed of them."""
        with np.load(self.folder / f"{name}.npz") as stored:
            data = {key: stored[key] for key in stored.files}
        return tuple(  # type: ignore[return-value]
            [data[f"{kind}{k}"] for k in range(sum(key.startswith(kind) for key in data))]
            for kind in ("in", "out")
        )


def run_script(
    python: str,
    script: str,
    folder: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> Exported:
    """Let a script of this folder export models."""
    command = [python, str(HERE / script), str(folder), *arguments]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    given = os.environ | quiet | dict(environment or {})
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    assert run.returncode == 0, run.stderr[-2000:]
    return Exported(folder, json.loads((folder / "failures.json").read_text(encoding="utf-8")))


def check_call(exported: Exported, name: str, target: str) -> None:
    """Call mode computes what the framework computed, to 1e-5."""
    path = exported.path(name)
    given, wanted = exported.arrays(name)
    graph = onnx.load(path).graph
    stored = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in stored]
    outputs = [item.name for item in graph.output]
    assert (len(inputs), len(outputs)) == (len(given), len(wanted))
    data = dict(zip(inputs, given, strict=True))
    shapes = {key: x.shape for key, x in data.items()}
    artifact = compile_model(path, target=target, mode="call", shapes=shapes)
    assert artifact.manifest["check"]["done"]
    result = artifact.session().call(data)
    found = result if isinstance(result, dict) else {outputs[0]: result}
    for key, expected in zip(outputs, wanted, strict=True):
        shown = np.asarray(found[key]).reshape(expected.shape)
        np.testing.assert_allclose(shown, expected, 1e-5, 1e-5)
