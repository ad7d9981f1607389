"""The schemes, and what may be chosen about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgelstm.errors import CapabilityError


class Scheme(StrEnum):
    """How one layer computes."""

    FP32 = "fp32"
    FP16 = "fp16"
    W8 = "w8"
    W4 = "w4"
    INT8 = "int8"
    INT8_FULL = "int8-full"


AUTO = "auto"
"""In place of a scheme: the cheapest one for each layer."""


class Observer(StrEnum):
    """How the range of an activation is read off what calibration saw."""

    MIN_MAX = "min-max"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


class Damping(StrEnum):
    """How much compensated rounding distrusts what operands did in the recordings.

    `compensate.STRENGTHS` has the numbers.
    """

    LIGHT = "light"
    MEDIUM = "medium"
    HEAVY = "heavy"


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What may be chosen beyond the scheme.

    Args:
        observer: how ranges are found.
        percentile: share of values inside of the range, for `Observer.PERCENTILE`.
        input_bits: 8 or 16 for what comes from outside (sensors have outliers); layers behind
            layers read 8 bits.
        per_channel: a scale per input of the first layer, folded into its weights.
        clip_weights: search the scale of each weight row for the least squared error, rather than
            taking the largest weight.
        correct_bias: add to each bias what quantizing the weights changes on average.
        compensate: round weights such that columns make up for each other (`compensate.py`).
        damping: of that; None: what is measured as the best on the recordings (`rounding.py`),
            heavy where there are none.
        equalize: move scale between dense layers connected by ReLU (`equalize.py`).
        wide_h: int8-full only: outputs and dense layers read the h of recurrent layers in 16 bits;
            else everything reads the int8 that R is multiplied with.
        integer_io: int8-full only: inputs and outputs are the integers themselves, no conversions
            and no floating point in the program.
    """

    observer: Observer = Observer.MIN_MAX
    percentile: float = 99.99
    input_bits: int = 16
    per_channel: bool = True
    clip_weights: bool = True
    correct_bias: bool = True
    compensate: bool = True
    damping: Damping | None = None
    equalize: bool = False
    integer_io: bool = False
    wide_h: bool = True

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "observer": self.observer.value,
            "percentile": self.percentile,
            "input_bits": self.input_bits,
            "per_channel": self.per_channel,
            "clip_weights": self.clip_weights,
            "correct_bias": self.correct_bias,
            "compensate": self.compensate,
            "damping": None if self.damping is None else self.damping.value,
            "equalize": self.equalize,
            "integer_io": self.integer_io,
            "wide_h": self.wide_h,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuantizeOptions:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        damping = data["damping"]
        kinds = {
            "observer": Observer(data["observer"]),
            "damping": None if damping is None else Damping(damping),
        }
        return cls(**{**data, **kinds})


def parse_scheme(name: str) -> Scheme | None:
    """The scheme of that name; None for `auto`.

    Raises:
        CapabilityError: no such scheme.
    """
    if name == AUTO:
        return None
    try:
        return Scheme(name)
    except ValueError:
        known = ", ".join([scheme.value for scheme in Scheme] + [AUTO])
        raise CapabilityError(
            f"there is no quantization scheme {name!r}; there is {known}"
        ) from None
