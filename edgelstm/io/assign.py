"""The columns of sensors to the inputs of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.io.block import Array, Block, SampleFlag
from edgelstm.io.columns import choose_columns
from edgelstm.io.live import Channels
from edgelstm.signature import Signature, TensorSpec


class AssignInputs:
    """A stage that turns groups of columns into frames of the inputs.

    Args:
        signature: the inputs.
        groups: the columns of every group in a block.
        wanted: names that the user gave, in the order of the elements.
        described: names in the model's description.
        origin: the source, for messages.

    Raises:
        RecordingError: which column is which element is not clear.
    """

    def __init__(
        self,
        signature: Signature,
        groups: Mapping[str, Channels],
        wanted: Sequence[str],
        described: Sequence[str],
        origin: str,
    ) -> None:
        self._specs = signature.inputs
        names = [name for channels in groups.values() for name in channels.names]
        has_names = all(channels.has_names for channels in groups.values())
        chosen = choose_columns(
            names,
            self._specs,
            wanted,
            range(len(names)),
            origin,
            described,
            has_names=has_names,
        )
        self._groups = tuple(groups)
        self._widths = tuple(len(channels.names) for channels in groups.values())
        self._picked = {name: np.array(places, np.intp) for name, places in chosen.items()}
        self._is_straight = len(self._specs) == 1 and chosen[self._specs[0].name] == list(
            range(len(names))
        )
        self.mapping = {name: [names[i] for i in places] for name, places in chosen.items()}
        """Which columns feed which input."""

    def feed(self, block: Block) -> list[Block]:
        """The block with frames by input."""
        tables = [
            block.frames[name].reshape(len(block), width)
            for name, width in zip(self._groups, self._widths, strict=True)
        ]
        table = tables[0] if len(tables) == 1 else np.concatenate(tables, axis=1)
        flags = block.flags
        frames: dict[str, Array] = {}
        for spec in self._specs:
            values = table if self._is_straight else table[:, self._picked[spec.name]]
            frames[spec.name], bad = _to_input(values, spec)
            if bad is not None and bad.any():
                flags = flags | np.where(bad, np.uint8(SampleFlag.INVALID), np.uint8(0))
        return [Block(frames, block.stamps, block.arrival, block.sequence, flags)]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []


def _to_input(values: NDArray[np.float64], spec: TensorSpec) -> tuple[Array, Array | None]:
    """Numbers in an input's type and shape, and which rows do not fit it."""
    shape = (len(values), *spec.shape)
    if spec.dtype.is_float:
        with np.errstate(over="ignore"):
            return values.astype(spec.dtype.numpy).reshape(shape), None
    if spec.dtype is DType.BOOL:
        fits = (values == 0) | (values == 1)
    else:
        limits = np.iinfo(spec.dtype.numpy.name)
        fits = (values >= limits.min) & (values <= limits.max) & (values == np.floor(values))
    whole = np.where(fits, values, 0).astype(spec.dtype.numpy).reshape(shape)
    bad: Array = ~fits.reshape(len(values), math.prod(spec.shape)).all(axis=1)
    return whole, bad
