"""An artifact beside a model that is called step by step, its states fed back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError
from edgelstm_compiler.binding.carried import CarriedModel, find_carried
from edgelstm_compiler.carried_check import Witness
from edgelstm_compiler.carried_replay import frames_by_input
from edgelstm_compiler.comparison import OURS, PEERS, TOLERANCE, relative_error
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.session_rows import step_through
from edgelstm_compiler.streaming.carry import request_of
from edgelstm_compiler.verification import OutputReport, Verification, compare_rows


def carried_of(artifact: Artifact, model: OnnxModel) -> CarriedModel | None:
    """The model with the pairs that an artifact was compiled with; None where it has none.

    Args:
        artifact: compiled from the model.
        model: its control inputs fixed.
    """
    options = artifact.manifest.get("options", {})
    request = request_of(options)
    if request.is_off:
        return None
    shapes = {name: tuple(shape) for name, shape in options.get("shapes", {}).items()}
    found = find_carried(model, shapes, request)
    if found is None:
        raise ModelError("the artifact carries states that the model does not have")
    return found


def verify_carried(
    artifact: Artifact,
    found: CarriedModel,
    frames: Mapping[str, Array],
    tolerance: float | None = None,
) -> Verification:
    """Every step beside ONNX Runtime's.

    Args:
        artifact: compiled for streams.
        found: what it was compiled from.
        frames: for each input (n, *frame shape).
        tolerance: largest error; None: `TOLERANCE`, and where the two differ by more, both are
            compared with float64.
    """
    count = len(next(iter(frames.values())))
    rows = step_through(artifact.session(), frames, count)
    witness = Witness(found, frames_by_input(artifact.signature, frames))
    told = witness.against
    reports = []
    for spec in artifact.signature.outputs:
        mine = rows[spec.name].reshape(count, -1)
        wanted = witness.expected(spec.name)
        report = compare_rows(
            spec.name, mine, wanted, TOLERANCE if tolerance is None else tolerance
        )
        if not report.passed and tolerance is None:
            decided = _decided(spec.name, mine, wanted, witness)
            if decided is not None:
                report = decided
                told = (
                    f"{witness.against}, and where it differs float64 within the noise of float32"
                )
        reports.append(report)
    return Verification(f"{told}, states fed back", count, tuple(reports))


def _decided(name: str, mine: Array, peer: Array, witness: Witness) -> OutputReport | None:
    """The comparison with float64; None where the peer computes another function than that."""
    exact, floor = witness.exact(name), witness.noise(name)
    distance = relative_error(peer, np.asarray(exact))
    if distance > max(TOLERANCE, PEERS * floor):
        return None
    return compare_rows(name, mine, exact, max(TOLERANCE, OURS * floor, distance))
