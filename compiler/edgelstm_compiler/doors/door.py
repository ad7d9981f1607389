"""A file of PyTorch or Keras becomes ONNX: exported by the user's framework, and compared with it.

The framework runs in a process of its own, with the user's rights: loading a model of a framework
may run whatever code is in it. What comes back is an ONNX file and arrays.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgelstm.errors import EdgeLSTMError, ModelError
from edgelstm_compiler.comparison import relative_error
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.output_names import with_output_names
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.selfcheck import Oracle

TOLERANCE = 1e-4
"""Largest error between the framework and its own ONNX, relative to magnitudes above 1."""

TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Door:
    """A kind of file.

    Args:
        framework: its name.
        worker: the script that the framework's Python runs.
        packages: what that Python needs.
    """

    framework: str
    worker: str
    packages: str


DOORS: Mapping[str, Door] = {
    ".pt2": Door("PyTorch", "torch_worker.py", "torch onnx onnxscript"),
    ".keras": Door("Keras", "keras_worker.py", "keras tensorflow tf2onnx onnx"),
    ".h5": Door("Keras", "keras_worker.py", "keras tensorflow tf2onnx onnx"),
    ".hdf5": Door("Keras", "keras_worker.py", "keras tensorflow tf2onnx onnx"),
}
"""By ending of the file."""


def door_of(path: Path) -> Door | None:
    """The door that a file goes through; None for ONNX and everything else."""
    return DOORS.get(path.suffix.lower()) if path.is_file() else None


def export_model(path: Path, target: Path, python: str | Path | None = None) -> OnnxModel:
    """Export a file to ONNX, and compare both.

    Args:
        path: of the file.
        target: where the ONNX model is written.
        python: interpreter that has the framework; None: this one.

    Raises:
        ModelError: the framework is missing or fails, or its ONNX computes something else.
    """
    door = DOORS[path.suffix.lower()]
    interpreter = str(python or sys.executable)
    with TemporaryDirectory(prefix="edgelstm_") as folder:
        made, probes = Path(folder) / "model.onnx", Path(folder) / "probes.npz"
        worker = Path(__file__).with_name(door.worker)
        command = [interpreter, str(worker), str(path.absolute()), str(made), str(probes)]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{door.framework} did not export {path} within {TIMEOUT_S} s"
            ) from error
        except OSError as error:
            raise ModelError(f"cannot run {interpreter}: {error.strerror}") from error
        if run.returncode == 3:
            raise ModelError(
                f"{path} is exported by {door.framework}, and {interpreter} has no package "
                f"{run.stdout.strip().splitlines()[-1]!r}: pip install {door.packages}, or name "
                "the Python that has it: --python PATH"
            )
        if run.returncode == 4:
            raise ModelError(f"{path}: {run.stdout.strip().splitlines()[-1]}")
        if run.returncode or not made.is_file():
            raise ModelError(f"{door.framework} cannot export {path}: {_said(run.stderr)}")
        with np.load(probes, allow_pickle=False) as arrays:
            found = dict(arrays)
        model = read_model(made)
        compare(model, found, door.framework)
        names = [str(name) for name in found.get("names", ())]
        target.write_bytes(with_output_names(model.proto, names).SerializeToString())
    return read_model(target)


def _said(stderr: str) -> str:
    """What a traceback says: its last error with the lines behind it, without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", stderr).splitlines()]
    errors = [k for k, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)]
    message = " ".join(" ".join(lines[errors[-1] if errors else -1 :]).split())
    return message[:400] or "no message"


def compare(model: OnnxModel, probes: Mapping[str, Array], framework: str) -> None:
    """Whether an ONNX model computes what the framework computed, at every length there is.

    Args:
        model: exported.
        probes: `in0_0`, `out0_0`, ...: by trial and place.
        framework: for messages.

    Raises:
        ModelError: it does not, or declares a length as free and takes only one.
    """
    oracle = Oracle(model)
    for trial in range(2):
        given = [probes[name] for name in _names(probes, "in", trial)]
        wanted = [probes[name] for name in _names(probes, "out", trial)]
        if not given:
            continue
        shapes = [x.shape for x in given]
        if len(given) != len(model.inputs) or len(wanted) != len(model.outputs):
            raise ModelError(
                f"{framework} has {len(given)} inputs and {len(wanted)} outputs, its ONNX "
                f"{len(model.inputs)} and {len(model.outputs)}: export it by hand"
            )
        fits = [
            item.dims is None
            or all(not isinstance(d, int) or d == n for d, n in zip(item.dims, shape, strict=True))
            for item, shape in zip(model.inputs, shapes, strict=True)
        ]
        if not all(fits):
            continue  # Exported with fixed extents: nothing is promised of others.
        inputs = {item.name: x for item, x in zip(model.inputs, given, strict=True)}
        try:
            found = oracle.run(inputs).outputs
        except EdgeLSTMError as error:
            raise ModelError(
                f"the ONNX that {framework} exported does not run at the shapes {shapes}, which it "
                f"declares as free: {error}"
            ) from error
        for name, expected in zip(model.outputs, wanted, strict=True):
            size = _error_of(found[name], expected)
            if not size <= TOLERANCE:
                raise ModelError(
                    f"the ONNX that {framework} exported computes something else than the model: "
                    f"output {name!r} at the shapes {shapes} differs by {size:.3g}. Export it with "
                    "another backend or exporter, and compile the ONNX file"
                )


def _error_of(found: Array, expected: Array) -> float:
    if found.size != expected.size:
        return float("inf")
    return relative_error(found.reshape(expected.shape), expected)


def _names(probes: Mapping[str, Array], kind: str, trial: int) -> list[str]:
    found = [name for name in probes if name.startswith(f"{kind}{trial}_")]
    return sorted(found, key=lambda name: int(name.rsplit("_", 1)[1]))
