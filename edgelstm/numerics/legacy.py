"""Programs of format 1, whose nodes name a cell instead of holding it.

`legacy_cells.json` has those cells as they were: programs that were compiled then compute the same
bits. Nothing is added here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from edgelstm.numerics.cells import Cell
from edgelstm.numerics.documents import read_cell

LEGACY: Mapping[str, tuple[str, str]] = {
    "LSTM": ("Recurrent", "LSTM"),
    "GRU": ("Recurrent", "GRU"),
    "RNN": ("Recurrent", "RNN"),
    "Int8LSTM": ("Int8Recurrent", "LSTM"),
    "Int8GRU": ("Int8Recurrent", "GRU"),
    "Int8RNN": ("Int8Recurrent", "RNN"),
    "IntegerLSTM": ("IntegerRecurrent", "LSTM"),
    "IntegerGRU": ("IntegerRecurrent", "GRU"),
}
"""By kind of the node: the operator it is today, and its cell."""

_P = 7
_VARIANTS = ("input_forget", "linear_before_reset")


def modern(
    kind: str, fields: Mapping[str, Any], inputs: Sequence[object]
) -> tuple[str, dict[str, Any]]:
    """The operator and the fields that say the same today.

    Args:
        kind: one of `LEGACY`.
        fields: of the node; those of quantized ones have the float operator's in "cell".
        inputs: of the node; with P the cell has peepholes.
    """
    operator, name = LEGACY[kind]
    layer = fields if operator == "Recurrent" else fields["cell"]
    variants = [variant for variant in _VARIANTS if layer.get(variant)]
    if len(inputs) > _P and inputs[_P] is not None:
        variants.append("peepholes")
    found = {name: value for name, value in ({**layer, **fields}).items() if name not in _VARIANTS}
    if operator == "IntegerRecurrent":
        found = {"cell_exponent": 0, "peephole_shift": 0} | found
    return operator, found | {"cell": _cell(" ".join((name, *variants)))}


@cache
def _cell(name: str) -> Cell:
    source = files("edgelstm.numerics").joinpath("legacy_cells.json")
    return read_cell(json.loads(source.read_text("utf-8"))[name])
