"""Frames of the inputs against what is known about them, and scaled to it where that is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.io.block import Array, Block, SampleFlag
from edgelstm.io.watch import range_watches
from edgelstm.signature import Signature

Say = Callable[[str], None]

_INVALID = np.uint8(SampleFlag.INVALID)
_LONG_ENOUGH_S = 60.0
"""After that a sensor has moved: how large its columns are is known."""


def parse_scale(text: str) -> dict[str, float]:
    """Factors by column, as people write them: `9.81`, or `acc_x=9.81,acc_y=9.81`.

    The factor for all columns has the name "".

    Raises:
        RecordingError: it is something else.
    """
    factors: dict[str, float] = {}
    for part in text.split(","):
        name, sign, number = part.rpartition("=")
        name = name.strip()
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not math.isfinite(factor) or factor == 0 or (sign and not name):
            raise RecordingError(
                f"--scale {text}: {part.strip()!r} is no factor: 9.81 for all columns, or "
                "acc_x=9.81,acc_y=9.81"
            )
        if name in factors:
            raise RecordingError(f"--scale {text}: {name or 'all columns'} stand twice")
        factors[name] = factor
    if "" in factors and len(factors) > 1:
        raise RecordingError(f"--scale {text}: one factor for all columns, or one for each")
    return factors


class ScaleInputs:
    """A stage that multiplies the elements of floating-point inputs.

    Args:
        factors: by column, see `parse_scale`.
        columns: names of the columns of each input, element by element.
        signature: of the model.

    Raises:
        RecordingError: a factor is for a column that feeds nothing, or for integers.
    """

    def __init__(
        self,
        factors: Mapping[str, float],
        columns: Mapping[str, Sequence[str]],
        signature: Signature,
    ) -> None:
        known = [name for names in columns.values() for name in names]
        self._factors: dict[str, Array] = {}
        for name in factors:
            if name and name not in known:
                raise RecordingError(
                    f"--scale: no column {name!r} feeds the model; there are {', '.join(known)}"
                )
        for spec in signature.inputs:
            names = columns.get(spec.name) or [""] * math.prod(spec.shape)
            row = np.array([factors.get(name, factors.get("", 1.0)) for name in names])
            if (row == 1.0).all():
                continue
            if not spec.dtype.is_float:
                raise RecordingError(f"--scale: input {spec.name!r} takes integers")
            self._factors[spec.name] = row.reshape(spec.shape)

    def feed(self, block: Block) -> list[Block]:
        """The block with other frames."""
        if not self._factors:
            return [block]
        frames = dict(block.frames)
        for name, factors in self._factors.items():
            values = frames[name]
            frames[name] = (values * factors).astype(values.dtype)
        return [replace(block, frames=frames)]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []


class UnitWatch:
    """A stage that says once what looks like another unit, and changes nothing.

    Args:
        signature: of the model.
        description: the ranges that it saw.
        rate_hz: of the samples; None where it is not known.
        say: called with each remark.
    """

    def __init__(
        self, signature: Signature, description: Description, rate_hz: float | None, say: Say
    ) -> None:
        self._say = say
        self._watches = range_watches(signature, description)
        self._left = round(_LONG_ENOUGH_S * (rate_hz or 100.0))

    def feed(self, block: Block) -> list[Block]:
        """The block as it is."""
        if self._watches and len(block):
            usable = (block.flags & _INVALID) == 0
            for watch in self._watches:
                for remark in watch.see(block.frames[watch.name][usable]):
                    self._say(remark)
            was_left, self._left = self._left, self._left - int(usable.sum())
            if was_left > 0 >= self._left:
                for watch in self._watches:
                    for remark in [*watch.small_remarks(), *watch.grown_remarks()]:
                        self._say(remark)
        return [block]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []
