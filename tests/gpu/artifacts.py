"""Artifacts for a machine with a GPU: compiled there, or before and carried along."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from edgelstm.artifact import Artifact, load
from tests.gpu.workloads import WORKLOADS, Workload, make_model

FOLDER = Path(__file__).parent / "artifacts"
"""Where `--build` leaves them; not in git (`*.edgelstm`)."""

_TARGETS = {
    "cuda": "edgelstm_targets.numba_cuda.target:CudaTarget",
    "reference": "edgelstm_compiler.reference:ReferenceTarget",
}


def find_artifacts(workload: Workload, chip: str) -> tuple[Artifact, Artifact]:
    """The model for the GPU and for the reference.

    Raises:
        EdgeLSTMError, ImportError: it is not in the folder, and cannot be compiled here.
    """
    paths = [FOLDER / f"{workload.name}.{name}.edgelstm" for name in _TARGETS]
    if all(path.exists() for path in paths):
        return load(paths[0]), load(paths[1])
    return compile_workload(workload, f"cuda:{chip}")


def build(chips: str) -> None:
    """Compile all workloads into the folder."""
    FOLDER.mkdir(exist_ok=True)
    for workload in WORKLOADS:
        artifacts = compile_workload(workload, f"cuda:{chips}")
        for name, artifact in zip(_TARGETS, artifacts, strict=True):
            artifact.save(FOLDER / f"{workload.name}.{name}.edgelstm")
        print(f"{workload.name}: {artifacts[0].sizes}", flush=True)


def compile_workload(workload: Workload, target: str) -> tuple[Artifact, Artifact]:
    """Compile a workload for the GPU and for the reference, without a check."""
    _register_targets()
    driver = importlib.import_module("edgelstm_compiler.driver")
    model = make_model(workload)
    options = {"shape": workload.shape}
    compiled = driver.compile_model(model, target=target, target_options=options, check=False)
    return compiled, driver.compile_model(model, target="reference", check=False)


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
