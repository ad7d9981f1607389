"""How far what is computed is from the model over whole recordings: measured and told, not judged.

A bounded look-ahead and a bounded context of attention are other functions than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgelstm.errors import StreamError
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.accuracy import ErrorMeasure, measure
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.session_rows import joined, to_frames, to_sequence

MEASURED = 4096
"""Frames of a recording over which the distance from the whole sequence is measured."""

Rows = dict[str, Array]


def deviation(
    signature: Signature,
    oracle: Oracle,
    frames: Mapping[str, Array],
    fixed: int | None,
    run: Callable[[Rows], Rows],
) -> dict[str, ErrorMeasure]:
    """How far some rows are from the model over the whole recording, by output.

    Args:
        signature: of the frames.
        oracle: of the model.
        frames: (n, *frame) by input; at most `MEASURED` of them are taken.
        fixed: the only number of frames that the model takes; then each is a recording.
        run: all rows over a recording.

    Raises:
        StreamError: fewer frames than that.
    """
    total = min(len(next(iter(frames.values()))), max(MEASURED, fixed or 0))
    length = fixed or total
    if total < length:
        raise StreamError(f"the model takes {length} frames, the recording has {total}")
    ours: list[Rows] = []
    theirs: list[Rows] = []
    for start in range(0, total - length + 1, length):
        part = {name: x[start : start + length] for name, x in frames.items()}
        ours.append(run(part))
        expected = oracle.run(model_inputs(part, signature.inputs)).outputs
        theirs.append(frames_by_name(expected, signature.outputs))
    found, wanted = joined(ours, signature), joined(theirs, signature)
    return {name: measure(wanted[name], rows) for name, rows in found.items()}


def model_inputs(frames: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Frames as the model takes a sequence of them; what has no time as it is at the end."""
    return {spec.name: to_sequence(frames[spec.name], spec) for spec in specs}


def frames_by_name(outputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Rows:
    """What a model gave as rows, by name; one row of what has no time."""
    return {s.name: to_frames(outputs[s.name], s.time_axis, s.shape) for s in specs}


def say_distance(far: Mapping[str, Mapping[str, Any]], why: str) -> list[str]:
    """The distance in lines of text.

    Args:
        far: measures by output, as JSON data; none where nothing was measured.
        why: there is one.
    """
    if not far:
        return []
    lines = [f"distance from the model over whole recordings (told, not judged: {why}):"]
    for name, error in far.items():
        ratio, agreement = error["sqnr_db"], error["agreement"]
        same = "" if agreement is None else f", same decision {100 * agreement:.2f} %"
        quality = "none" if ratio is None else f"SQNR {ratio:.1f} dB"
        lines.append(
            f"  {name}: {quality}, max error {error['max_error']:.3g}, "
            f"mean {error['mean_error']:.3g}, RMS {error['rms_error']:.3g}{same}"
        )
    return lines
