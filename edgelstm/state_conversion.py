"""The state of one artifact as the state of another: the same values at other scales or types.

A new calibration of the same model makes a new identity. What its states mean stays the same, so a
stream that has run for weeks goes on with every value rounded to the new scale once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import STATE_SECTION, Artifact
from edgelstm.errors import ArtifactFormatError, StreamError
from edgelstm.memory import Block
from edgelstm.signature import StateSpec
from edgelstm.snapshot import Snapshot, state_to_restore, state_view


@dataclass(frozen=True, slots=True)
class StateChange:
    """What the conversion did to one state.

    Args:
        name: of the state.
        before, after: its element types.
        max_error: largest change of a value, in the model's units.
        saturated: elements that lie beyond what the new scale reaches, and stand at its end.
        elements: of how many.
    """

    name: str
    before: str
    after: str
    max_error: float
    saturated: int
    elements: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def convert_snapshot(
    snapshot: Snapshot | bytes, old: Artifact, new: Artifact, *, any_source: bool = False
) -> tuple[Snapshot, list[StateChange]]:
    """A snapshot of `old` as one that `new` continues from.

    Args:
        snapshot: taken from a session of `old`.
        old: what it was taken from.
        new: the same model with another calibration, scheme or target.
        any_source: also where the two were compiled from different ONNX files.

    Returns:
        The new snapshot, and what became of each state.

    Raises:
        StreamError: the snapshot is not of `old`, or the two have different states.
        ArtifactFormatError: an artifact does not say what its integer states mean.
    """
    _expect_one_source(old, new, any_source)
    _expect_same_states(old, new)
    before = state_to_restore(snapshot, old.model_id, old.signature, _initial(old))
    after = _initial(new).copy()
    old_scales, new_scales = _scales(old), _scales(new)
    places = {spec.name: spec for spec in old.signature.states}
    changes = []
    for spec in new.signature.states:
        source = places[spec.name]
        given = state_view(before, source)
        if source.dtype is spec.dtype and old_scales[spec.name] == new_scales[spec.name]:
            state_view(after, spec)[...] = given
            changes.append(_change(source, spec, 0.0, 0))
            continue
        values = given.astype(np.float64) * old_scales[spec.name]
        steps, saturated = _quantize(values, spec, new_scales[spec.name])
        state_view(after, spec)[...] = steps
        reached = state_view(after, spec).astype(np.float64) * new_scales[spec.name]
        error = float(np.max(np.abs(reached - values), initial=0.0))
        changes.append(_change(source, spec, error, saturated))
    result = Snapshot(new.model_id, after.tobytes())
    state_to_restore(result, new.model_id, new.signature, _initial(new))
    return result, changes


def _change(source: StateSpec, spec: StateSpec, error: float, saturated: int) -> StateChange:
    elements = int(np.prod(spec.shape, dtype=np.int64))
    return StateChange(spec.name, source.dtype.value, spec.dtype.value, error, saturated, elements)


def _quantize(values: Any, spec: StateSpec, scale: float) -> tuple[Any, int]:
    """Values in the type and at the scale of a state, and how many do not fit."""
    steps = values / scale
    if spec.dtype.is_float:
        return steps, 0
    # Symmetric, as cells keep their states: no int8 cell makes an h of -128.
    high = np.iinfo(spec.dtype.numpy.name).max
    rounded = np.rint(steps)
    return np.clip(rounded, -high, high), int(np.count_nonzero(np.abs(rounded) > high))


def _initial(artifact: Artifact) -> Block:
    return np.frombuffer(artifact.container.section(STATE_SECTION), np.uint8)


def _scales(artifact: Artifact) -> dict[str, float]:
    """What one step of each state is; 1 for floats, and for integers of a model in floats.

    Raises:
        ArtifactFormatError: the artifact is quantized and does not say.
    """
    record: Mapping[str, Any] = artifact.manifest.get("quantization") or {}
    found = {str(entry["name"]): float(entry["scale"]) for entry in record.get("states", [])}
    for spec in artifact.signature.states:
        if spec.name in found:
            continue
        if record and spec.dtype.value in ("i8", "i16"):
            raise ArtifactFormatError(
                f"{artifact.name}: the artifact does not say at which scale its state "
                f"{spec.name!r} ({spec.dtype.value}) is: compile it again with this version, from "
                "the same model with the same calibration"
            )
        found[spec.name] = 1.0
    return found


def _expect_one_source(old: Artifact, new: Artifact, any_source: bool) -> None:
    first, second = (str(each.manifest["source"].get("sha256", "")) for each in (old, new))
    if first != second and not any_source:
        raise StreamError(
            f"the artifacts were compiled from different models (SHA-256 {first[:12]}... and "
            f"{second[:12]}...): a state means something to the model that made it only; where the "
            "ONNX files differ but the networks do not, say --any-source"
        )


def _expect_same_states(old: Artifact, new: Artifact) -> None:
    first = {spec.name: spec.shape for spec in old.signature.states}
    second = {spec.name: spec.shape for spec in new.signature.states}
    if first == second:
        return
    missing = sorted(set(first) ^ set(second))
    if missing:
        side = "the old" if missing[0] in first else "the new"
        raise StreamError(
            f"only {side} artifact has a state {missing[0]!r}: these are different models, or "
            "different modes; begin a new stream"
        )
    name = next(name for name, shape in first.items() if second[name] != shape)
    raise StreamError(
        f"state {name!r} has shape {first[name]} in the old artifact and {second[name]} in the "
        "new one: these are different models; begin a new stream"
    )
