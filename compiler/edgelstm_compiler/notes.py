"""What a stream made of a model does that its training did not show: kept in the manifest.

A model of a fixed number of frames was trained on windows, each from a fresh state; stepped, its
state is carried on without end. And a cell with an unbounded activation has a bounded state only
for as long as its training windows were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.signature import Signature
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, P

UNBOUNDED = frozenset({Fn.RELU, Fn.LEAKY_RELU, Fn.THRESHOLDED_RELU, Fn.ELU, Fn.SOFTPLUS, Fn.AFFINE})


@dataclass(frozen=True, slots=True)
class StreamNotes:
    """What is told at `compile` and `inspect`, and where `run` has no `--reset-every`.

    Args:
        window: frames of the windows that the model was trained on; None where its length is free.
        warnings: sentences.
    """

    window: int | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Entries of the manifest, those alone that say something."""
        entries: dict[str, Any] = {}
        if self.window is not None:
            entries["window"] = {"frames": self.window}
        if self.warnings:
            entries["warnings"] = list(self.warnings)
        return entries


def stream_notes(binding: Binding, graph: StepGraph) -> StreamNotes:
    """The notes of a stream; none where nothing runs along time, as in calls.

    A window of one frame is a model that was exported to be stepped.
    """
    carried = {state.read for state in graph.states}
    window = None
    if not binding.free_time and binding.carried is None:
        window = max(
            (
                binding.shapes[item.value.name][item.time_axis]
                for item in graph.inputs
                if item.time_axis is not None
            ),
            default=1,
        )
    warnings = [say_window(window)] if window is not None and window > 1 else []
    warnings += [
        f"cell {node.name!r} feeds {_list(found)}, which {'has' if len(found) == 1 else 'have'} "
        "no upper bound, back into itself: over a stream without end its state can grow until it "
        "is no longer finite. Train it with tanh or with clip, or begin anew in time: "
        "edgelstm run --reset-every N"
        for node in graph.nodes
        if isinstance(node.op, Recurrent)
        and carried.intersection(node.inputs[INITIAL_H:P])
        and (found := unbounded_activations(node.op))
    ]
    return StreamNotes(window if window is not None and window > 1 else None, tuple(warnings))


def carried_notes(binding: Binding) -> dict[str, Any]:
    """The entry of the manifest about states that were inputs and outputs of the model."""
    found = binding.carried
    if found is None:
        return {}
    rows = []
    for state in found.carried.states:
        evidence = state.pair.evidence
        rows.append(
            {
                "input": state.pair.before,
                "output": state.pair.after,
                "because": "as given" if evidence is None else ", ".join(evidence.reasons),
                "is_guess": state.pair.is_guess,
                "begins": "as in the file" if state.is_from_file else "zero",
            }
        )
    overlaps = [
        {"input": x.name, "axis": x.axis, "elements": x.count}
        for x in found.carried.overlaps
        if x.count
    ]
    return {"carried": {"states": rows, "overlaps": overlaps}}


def last_place_notes(check: Mapping[str, Any], signature: Signature) -> list[str]:
    """How far outputs in other floats than float32 are from float64, a sentence each."""
    types = {spec.name: spec.dtype.numpy.name for spec in signature.outputs}
    return [
        f"output {name!r} is {types[name]}, computed in float32: at most {units:.3g} units of the "
        f"last place of {types[name]} from the model in float64"
        for name, units in check.get("last_place", {}).items()
    ]


def say_window(frames: int) -> str:
    """One sentence about windows that became a stream."""
    return (
        f"trained on windows of {frames} frames, stepped without end: after frame {frames} the "
        "state holds more than any window of the training showed. edgelstm run --reset-every "
        f"{frames} begins a new window every {frames} frames; --mode call computes whole windows"
    )


def unbounded_activations(op: Recurrent) -> list[str]:
    """Names of activations that no clip bounds, each once."""
    if op.clip is not None:
        return []
    found = (a for a in op.activations if a.fn in UNBOUNDED)
    return list(dict.fromkeys(a.fn.value for a in found if a.fn is not Fn.AFFINE or a.alpha))


def _list(names: list[str]) -> str:
    return " and ".join(names)
