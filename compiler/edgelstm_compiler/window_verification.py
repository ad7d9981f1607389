"""A window model beside the model it came from: every window on its own, from fresh state."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.errors import StreamError
from edgelstm.sessions.window import Window, WindowSession
from edgelstm.signature import TensorSpec, WindowPlan
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.session_rows import by_name, joined
from edgelstm_compiler.verification import Piece, Verification, judge_pieces

MOST_WINDOWS = 64
"""Windows that are compared, spread over the recording."""


def chunk_of(artifact: Artifact) -> Artifact:
    """One chunk of a window model, as what its code computes: a stream or a call."""
    plan = _plan(artifact)
    options = {**artifact.manifest["options"], "mode": plan.kernel.mode}
    return _with(artifact, signature=plan.kernel.to_json(), options=options)


def with_plan(artifact: Artifact, **changes: Any) -> Artifact:
    """The same code with something else done to the frames; see `WindowPlan`."""
    plan = replace(_plan(artifact), **changes)
    return _with(artifact, signature=replace(artifact.signature, window=plan).to_json())


def verify_windows(
    artifact: Artifact,
    model: OnnxModel,
    frames: Mapping[str, Array],
    tolerance: float | None = None,
    seed: int = 0,
) -> Verification:
    """The answers of all windows, fed in random pieces, beside the model on each window.

    Args:
        artifact: compiled for windows.
        model: what it was compiled from.
        frames: for each input (n, *frame shape).
        tolerance: see `verify_stream`.
        seed: of the cuts.

    Raises:
        StreamError: fewer frames than a window has.
    """
    plan = _plan(artifact)
    total = len(next(iter(frames.values())))
    if total < plan.frames:
        raise StreamError(
            f"a window has {plan.frames} frames, the input {total}: give a recording of at least "
            "one window"
        )
    answers, windows = _run_in_pieces(artifact, frames, total, seed)
    oracle = Oracle(model)
    pieces: list[Piece] = []
    against = ""
    carried = plan.carries
    chosen = np.unique(np.linspace(0, len(windows) - 1, MOST_WINDOWS).round().astype(int))
    for index in [0] if carried else chosen.tolist():
        window = windows[index]
        inputs = {
            spec.name: _window_of(frames[spec.name], window, spec)
            for spec in artifact.signature.inputs
        }
        expected = oracle.run(inputs)
        against = expected.against
        for spec in artifact.signature.outputs:
            wanted = expected.outputs[spec.name].reshape(1, *spec.shape)
            row = answers[spec.name][index : index + 1]
            pieces.append(Piece(spec.name, row, wanted, inputs, [window.last]))
    shapes = {spec.name: spec.shape for spec in artifact.signature.outputs}
    return judge_pieces(
        oracle,
        against,
        total,
        pieces,
        tolerance,
        lambda name, exact, piece: exact[name].reshape(1, *shapes[name]),
    )


def _run_in_pieces(
    artifact: Artifact, frames: Mapping[str, Array], total: int, seed: int
) -> tuple[dict[str, Array], list[Window]]:
    rng = np.random.default_rng(seed)
    cuts = sorted({0, *rng.integers(0, total, 8).tolist(), total})
    session = _unsmoothed(artifact).session()
    assert isinstance(session, WindowSession)
    parts: list[dict[str, Array]] = []
    windows: list[Window] = []
    for start, stop in itertools.pairwise(cuts):
        block = {name: x[start:stop] for name, x in frames.items()}
        parts.append(by_name(session.advance_all(block), artifact.signature))
        windows += session.windows
    return joined(parts, artifact.signature), windows


def _unsmoothed(artifact: Artifact) -> Artifact:
    """The same with every answer as it is."""
    return with_plan(artifact, smoothing="", smoothed=1)


def _with(artifact: Artifact, **entries: Any) -> Artifact:
    """The same code under a manifest with these entries."""
    manifest = {**artifact.manifest, **entries}
    return Artifact(Container(manifest, dict(artifact.container.sections))).on(artifact.kernel)


def _window_of(frames: Array, window: Window, spec: TensorSpec) -> Array:
    """The frames of a window as the model takes them."""
    if spec.time_axis is None:
        return np.asarray(frames[window.last].reshape(spec.model_shape))
    block = frames[window.first : window.last + 1]
    rest = [e for axis, e in enumerate(spec.model_shape) if axis != spec.time_axis]
    return np.ascontiguousarray(np.moveaxis(block.reshape(-1, *rest), 0, spec.time_axis))


def _plan(artifact: Artifact) -> WindowPlan:
    plan = artifact.signature.window
    assert plan is not None
    return plan
