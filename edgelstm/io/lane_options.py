"""How the samples of a stream are treated, and who speaks in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgelstm.artifact import Artifact
from edgelstm.io.counters import Counters
from edgelstm.io.fusion import Sensor
from edgelstm.io.named_outputs import NamedOutputs
from edgelstm.io.predictions import Field, ModelIdentity
from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.stage import Stage
from edgelstm.io.time_settings import TimeSettings
from edgelstm.signature import TensorSpec


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How samples of a stream are treated.

    Args:
        columns: names that the user gave.
        policy: for samples that the model does not take.
        reset_every: begin anew after so many samples.
        rate_hz: of the model or as given.
        keeps_inputs: predictions carry what was fed.
        restart_gap_s: a live stream goes on with its old state if it stood still no longer.
        stages: made for every stream, between its sensor and the model's inputs.
        time: what is asked of time, units and decoding.
        sensors: several that feed the stream together; empty where one does.
    """

    columns: Sequence[str] = ()
    policy: BadSamplePolicy = BadSamplePolicy.HOLD
    reset_every: int | None = None
    rate_hz: float | None = None
    keeps_inputs: bool = False
    restart_gap_s: float = 10.0
    stages: Callable[[str, Counters], Sequence[Stage]] = lambda name, counters: ()
    time: TimeSettings = field(default_factory=TimeSettings)
    sensors: Sequence[Sensor] = ()


def _fields(specs: Sequence[TensorSpec]) -> tuple[Field, ...]:
    return tuple((spec.name, spec.shape, spec.dtype.numpy.str) for spec in specs)


def model_identity(model: Artifact, named: NamedOutputs) -> ModelIdentity:
    """Which model speaks, and how its outputs are called.

    Args:
        model: see there.
        named: the names of its outputs.
    """
    return ModelIdentity(
        model.name,
        model.model_id,
        _fields(named.signature.outputs),
        named.kept,
        _fields(model.signature.inputs),
    )
