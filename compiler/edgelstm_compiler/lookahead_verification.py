"""A look-ahead model over recordings: what it computes is judged, what it leaves out is told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm.signature import LookaheadPlan
from edgelstm_compiler.comparison import OURS, TOLERANCE
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lookahead_check import ChunkRows, run_to_end
from edgelstm_compiler.quant.accuracy import ErrorMeasure
from edgelstm_compiler.quant_report.restore import Restored
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.verification import (
    Verification,
    compare_rows,
    fixed_length,
    random_cuts,
)
from edgelstm_compiler.whole_sequence import deviation, say_distance

MOST_COMPUTED = 20_000
"""Frames, those that are computed again included, that are compared in float64."""


def verify_lookahead(
    artifact: Artifact,
    restored: Restored,
    frames: Mapping[str, Array],
    tolerance: float | None = None,
) -> tuple[Verification, Mapping[str, ErrorMeasure]]:
    """All answers, fed in random pieces and to the end, beside the chunk in float64.

    Args:
        artifact: compiled for look-ahead.
        restored: what it was compiled from.
        frames: for each input (n, *frame); inputs without time keep their first value.
        tolerance: see `verify_stream`.

    Returns:
        The verdict, and how far the answers are from the model over the whole recording.

    Raises:
        StreamError: fewer frames than the model's fixed length.
    """
    signature = artifact.signature
    plan = signature.lookahead
    assert plan is not None
    total = len(next(iter(frames.values())))
    frames = {
        spec.name: frames[spec.name]
        if spec.time_axis is not None
        else frames[spec.name][:1].repeat(total, axis=0)
        for spec in signature.inputs
    }
    fixed = fixed_length(restored.model, artifact)
    if fixed is not None and total < fixed:
        raise StreamError(
            f"the model takes {fixed} frames, the input has {total}: give a recording of at least "
            "as many"
        )
    compared = min(total, max(plan.span + plan.chunk, MOST_COMPUTED * plan.chunk // plan.span))
    part = {name: x[:compared] for name, x in frames.items()}
    rows = run_to_end(artifact, part, random_cuts(compared, 0))
    chunks = ChunkRows.of(artifact, restored.float_graph)
    wanted, noise = chunks.exact(part), None
    reports = []
    for name, found in rows.items():
        expected = wanted[name].reshape(found.shape)
        report = compare_rows(name, found, expected, TOLERANCE if tolerance is None else tolerance)
        if not report.passed and tolerance is None:
            noise = chunks.noise(part) if noise is None else noise
            report = compare_rows(name, found, expected, max(TOLERANCE, OURS * noise[name]))
        reports.append(report)
    against = f"the same chunks of {plan.chunk} frames and {plan.ahead} ahead in float64"
    run = partial(run_to_end, artifact)
    far = deviation(signature, Oracle(restored.model), frames, fixed, run)
    return Verification(against, compared, tuple(reports)), far


def say_deviation(far: Mapping[str, Mapping[str, Any]], plan: LookaheadPlan) -> list[str]:
    """What a bounded look-ahead leaves out, in lines of text.

    Args:
        far: measures by output, as JSON data; none where nothing was measured.
        plan: of the look-ahead.
    """
    return say_distance(far, f"{plan.ahead} frames ahead are an approximation")
