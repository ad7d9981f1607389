"""Whole calls: the function as it was exported, computed from fresh states each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.samples import Frame, Result
from edgelstm.sessions.base import Session, SessionMode


class CallSession(Session):
    """A function that is called; nothing is carried from call to call."""

    _use = "call(inputs)"

    __slots__ = ()

    def _prepare(self) -> None:
        """Nothing more."""

    def call(self, inputs: Frame) -> Result:
        """Compute the whole function once (artifacts compiled with `--mode call`).

        Args:
            inputs: a dict of arrays by name; one input may come alone.

        Returns:
            Fresh arrays, one or a dict by name.

        Raises:
            StreamError: an input does not fit.
        """
        with self._turn:
            self._expect_open()
            self._fill(inputs)
            code = self._code(self._step())
            if code:
                self._refuse(code, self._inputs)
            return self._as_result([output.copy() for output in self._outputs])

    def advance(self, values: Mapping[str, Any]) -> Result:
        """A call."""
        return self.call(values)

    def advance_all(self, blocks: Mapping[str, Any]) -> Result:
        """Call after call."""
        count = len(next(iter(blocks.values()))) if blocks else 1
        results = [self.call({name: x[i] for name, x in blocks.items()}) for i in range(count)]
        if len(self._outputs) == 1:
            return np.stack(results)
        names = [spec.name for spec in self._signature.outputs]
        return {name: np.stack([result[name] for result in results]) for name in names}


def _last_axis(shape: tuple[int, ...]) -> int:
    """Columns and classes stand along the last axis; the others count frames and streams."""
    return shape[-1] if shape else 1


CALL = SessionMode(
    name="call",
    session=CallSession,
    unit="call",
    units="calls",
    consumes="call",
    entry="call",
    use=CallSession._use,
    has_blocks=False,
    takes_many=False,
    runner="edgelstm.io.call_run:CallRun",
    described_size=_last_axis,
    refused_options=("keep", "on_bad_sample", "state_file", "resume", "state_every", "reset_every"),
    why_refused="is for streams, and this artifact was compiled with --mode call",
)
