"""What the model said about samples, and what happened besides: what sinks are given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Array, SampleFlag

UNTRUSTED = int(
    SampleFlag.INVALID | SampleFlag.HELD | SampleFlag.OUT_OF_RANGE | SampleFlag.CLOCK_JUMP
)
"""A prediction whose newest sample has one of these flags is not valid."""


Field = tuple[str, tuple[int, ...], str]
"""Name, shape and type of an output or input."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model spoke, and how its outputs are called.

    Args:
        name: of the artifact.
        model_id: tells models apart.
        outputs: name, shape and type (`<f4`) of each output, a labelled one as a scalar for each
            class.
        labels: names of the columns that hold a label, such as `label`.
        inputs: name, shape and type of each input.
    """

    name: str
    model_id: str
    outputs: tuple[Field, ...]
    labels: tuple[str, ...] = ()
    inputs: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Predictions:
    """Outputs of one stream, a row for each sample that was fed.

    Shapes:
        outputs: `(n, *shape)` by name; the others `(n,)`.

    Units:
        time: seconds since 1970 (UTC), by this machine's clock when the sample came; of a replay:
        as if it had come with its distance in the recording. stamps: seconds, the source's clock.

    Args:
        stream: whose.
        model: which model said so.
        sequence: number of the sample; with stream and model the key of the prediction.
        time: see above.
        stamps: see above; NaN where the source has no clock.
        arrival: seconds, monotonic clock of this machine.
        flags: bits of `SampleFlag`.
        valid: whether the newest sample was a measured one within range.
        quality: 0 to 1, the share of measured samples among the last ones.
        outputs: what the model said.
        labels: the label of each row, by the name of its column.
        inputs: what was fed, by input.
    """

    stream: str
    model: ModelIdentity
    sequence: NDArray[np.int64]
    time: NDArray[np.float64]
    stamps: NDArray[np.float64]
    arrival: NDArray[np.float64]
    flags: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    quality: NDArray[np.float32]
    outputs: Mapping[str, Array]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequence)


def joined(parts: Sequence[Predictions]) -> list[Predictions]:
    """The same rows in fewer parts: one for each stream whose parts have the same columns."""
    alike: dict[Hashable, list[Predictions]] = {}
    for part in parts:
        columns = (*part.outputs, None, *part.labels, None, *part.inputs)
        alike.setdefault((part.stream, part.model.model_id, columns), []).append(part)
    return [each[0] if len(each) == 1 else _join(each) for each in alike.values()]


def _join(parts: Sequence[Predictions]) -> Predictions:
    first = parts[0]

    def together(what: Callable[[Predictions], Array]) -> Array:
        return np.concatenate([what(part) for part in parts])

    return Predictions(
        first.stream,
        first.model,
        together(lambda part: part.sequence),
        together(lambda part: part.time),
        together(lambda part: part.stamps),
        together(lambda part: part.arrival),
        together(lambda part: part.flags),
        together(lambda part: part.valid),
        together(lambda part: part.quality),
        {name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs},
        {name: [x for part in parts for x in part.labels[name]] for name in first.labels},
        {name: np.concatenate([part.inputs[name] for part in parts]) for name in first.inputs},
    )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment.

    Args:
        stream: to which stream; "" for the whole run.
        time: seconds since 1970 (UTC).
        kind: `no prediction`, `prediction again`, `connected`, `disconnected`, `output stuck`, ...
        text: for people.
        sample: number of the sample it came with; None where it came with none.
        data: for machines.
        model: name of the artifact.
        model_id: tells models apart.
    """

    stream: str
    time: float
    kind: str
    text: str
    sample: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    model_id: str = ""


NO_PREDICTION = "no prediction"
PREDICTION_AGAIN = "prediction again"
OUTPUT_STUCK = "output stuck"
OUTPUT_AGAIN = "output again"


def flag_names(flags: int) -> list[str]:
    """Names of the bits, in small letters."""
    return [flag.name.lower() for flag in SampleFlag if flag & flags and flag.name]
