"""Artifacts for a machine with a GPU: compiled there, or before and carried along."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact, load
from tests.gpu.workloads import WORKLOADS, Workload, make_model, make_recordings

CARRIED = Path(__file__).parent / "artifacts"
"""Where `--build` leaves them; not in git (`*.edgelstm`)."""

_TARGETS = {
    "cuda": "edgelstm_targets.numba_cuda.target:CudaTarget",
    "reference": "edgelstm_compiler.reference:ReferenceTarget",
}


def artifact_path(folder: Path, workload: Workload, target: str) -> Path:
    """Where a workload's artifact stands."""
    return folder / f"{workload.name}.{target}.edgelstm"


def load_artifact(folder: Path, workload: Workload, target: str) -> Artifact:
    """The model for the GPU (`cuda`) or for the reference.

    Raises:
        EdgeLSTMError: it is not there, or cannot be read.
    """
    return load(artifact_path(folder, workload, target))


def build(workload: Workload, chips: str, folder: Path) -> None:
    """Compile a workload for the GPU and for the reference, without a check.

    Raises:
        EdgeLSTMError, ImportError: it cannot be compiled here.
    """
    _register_targets()
    driver = importlib.import_module("edgelstm_compiler.driver")
    model = make_model(workload)
    folder.mkdir(exist_ok=True, parents=True)
    asked: dict[str, Any] = {"check": False}
    if workload.scheme:
        asked |= {"quantize": workload.scheme, "calibration": make_recordings(workload)}
    reference = driver.compile_model(model, target="reference", **asked)
    reference.save(artifact_path(folder, workload, "reference"))
    made = driver.compile_model(
        model, target=f"cuda:{chips}", target_options=workload.options, **asked
    )
    made.save(artifact_path(folder, workload, "cuda"))


def find_workload(name: str) -> Workload:
    """The workload of that name."""
    return next(each for each in WORKLOADS if each.name == name)


def _register_targets() -> None:
    """Where edgelstm is not installed, targets are found by a description written here."""
    from edgelstm_compiler.target import target_names

    if "cuda" in target_names():
        return
    folder = Path(tempfile.mkdtemp(prefix="edgelstm-targets-"), "edgelstm_session-0.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: edgelstm-session\nVersion: 0\n")
    lines = ["[edgelstm.targets]", *(f"{name} = {place}" for name, place in _TARGETS.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
