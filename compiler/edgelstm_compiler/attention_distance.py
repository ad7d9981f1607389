"""Attention over a bounded number of frames: what is told of it, how far it is from the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.time_line import say_context
from edgelstm.signature import Signature
from edgelstm_compiler.binding import AttentionBound, Binding
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.quant.accuracy import ErrorMeasure
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.session_rows import frames_of
from edgelstm_compiler.trial_inputs import random_inputs
from edgelstm_compiler.whole_sequence import (
    Rows,
    deviation,
    frames_by_name,
    model_inputs,
    say_distance,
)

RECORDING, DRAWN = "a recording", "seeded random input"

CONTEXTS = 4
"""Frames of random input, in contexts."""

FEWEST = 200
"""Frames of random input, at least."""


def attention_record(
    bound: AttentionBound,
    models: tuple[OnnxModel, OnnxModel],
    binding: Binding,
    signature: Signature,
    recordings: Sequence[Mapping[str, Array]],
) -> dict[str, Any]:
    """The manifest's entry about attention whose context was asked for.

    Args:
        bound: what was asked, and what it makes of the model.
        models: as the file has it, and with the bound.
        binding: of the model with the bound.
        signature: of its frames.
        recordings: to measure on; none: seeded random input.
    """
    far: dict[str, ErrorMeasure] = {}
    if not bound.is_exact:
        if recordings:
            frames = {name: np.asarray(x) for name, x in recordings[0].items()}
        else:
            count = bound.frames or max(FEWEST, CONTEXTS * bound.context)
            frames = frames_of(signature, random_inputs(binding, binding.shapes_for(count)))
        far = attention_distance(models, signature, frames, bound.frames)
    return {
        "attention": {
            "context": bound.context,
            "nodes": list(bound.nodes),
            "is_exact": bound.is_exact,
            "frames": bound.frames,
            "exact_for": bound.exact_for,
            "measured_on": RECORDING if recordings else DRAWN,
            "distance_to_whole": {name: error.to_json() for name, error in far.items()},
        }
    }


def measured_again(
    artifact: Artifact,
    models: tuple[OnnxModel, OnnxModel],
    frames: Mapping[str, Array],
    is_recording: bool,
) -> dict[str, Any]:
    """What an artifact tells of its attention, its distance from the model over these frames.

    Args:
        artifact: whose manifest may have such an entry.
        models: as the file has it, and with the bound.
        frames: (n, *frame) by input.
        is_recording: they are none that were drawn.

    Returns:
        The entry; none where nobody asked for a context.
    """
    record: dict[str, Any] = dict(artifact.manifest.get("attention") or {})
    if not record or record["is_exact"]:
        return record
    far = attention_distance(models, artifact.signature, frames, record["frames"])
    record["measured_on"] = RECORDING if is_recording else DRAWN
    record["distance_to_whole"] = {name: error.to_json() for name, error in far.items()}
    return record


def attention_distance(
    models: tuple[OnnxModel, OnnxModel],
    signature: Signature,
    frames: Mapping[str, Array],
    fixed: int | None,
) -> dict[str, ErrorMeasure]:
    """How far the model with bounded attention is from that of the file, by output.

    Args:
        models: as the file has it, and with the bound.
        signature: of the frames.
        frames: (n, *frame) by input; inputs without time may have one row.
        fixed: the only number of frames that the model takes.

    Raises:
        StreamError: fewer frames than that.
    """
    whole, bounded = (Oracle(model) for model in models)
    count = max(len(x) for x in frames.values())
    held = {name: x if len(x) == count else x[:1].repeat(count, 0) for name, x in frames.items()}

    def run(part: Rows) -> Rows:
        found = bounded.run(model_inputs(part, signature.inputs)).outputs
        return frames_by_name(found, signature.outputs)

    return deviation(signature, whole, held, fixed, run)


def say_attention(record: Mapping[str, Any] | None) -> list[str]:
    """What there is to know about it, in lines of text; none where nobody asked for a context."""
    if not record:
        return []
    why = f"on {record['measured_on']}"
    return [say_context(record), *say_distance(record["distance_to_whole"], why)]
