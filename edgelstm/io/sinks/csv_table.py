"""Predictions as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from edgelstm.io.base import Array
from edgelstm.io.columns import element_names, number_texts
from edgelstm.signature import Signature


class CsvSink:
    """Predictions as rows: columns that pass through, then every element of every output.

    Args:
        stream: where the text goes.
        signature: what the model gives.
        kept: names of the columns that pass through.
    """

    def __init__(self, stream: TextIO, signature: Signature, kept: Sequence[str] = ()) -> None:
        self._stream = stream
        self._specs = signature.outputs
        self._kept = tuple(kept)
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow([*kept, *(n for spec in self._specs for n in element_names(spec))])

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write rows."""
        n_frames = len(outputs[self._specs[0].name])
        tables = [outputs[spec.name].reshape(n_frames, -1) for spec in self._specs]
        for i in range(n_frames):
            row = [_text(kept[name][i]) for name in self._kept]
            for table in tables:
                row += number_texts(table[i])
            self._writer.writerow(row)

    def flush(self) -> None:
        """Hand on what was written so far."""
        self._stream.flush()

    def finish(self) -> None:
        """All rows are out already; hand them on."""
        self._stream.flush()


def _text(value: Any) -> str:
    """A value that passes through; half of a surrogate pair, which UTF-8 lacks, as an escape."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
