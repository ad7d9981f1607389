"""What the numbers of a model mean: columns, units, ranges seen, rate and class labels.

It stands in the manifest beside the signature, and belongs to no model's identity: a snapshot fits
a model whatever its columns are called.

```
description   {"inputs":  {INPUT:  [{"name", "unit", "range": [low, high] or null}, ...]},
               "outputs": {OUTPUT: [label, ...]},
               "rate_hz": number or null,
               "decoding": table, where there is one}
```
Inputs list their elements row by row; inputs and outputs of which nothing is known are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgelstm.sessions import mode_of
from edgelstm.signature import Mode, Signature, TensorSpec

MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Column:
    """One element of an input.

    Args:
        name: of the column in recordings.
        unit: physical unit, "" where it is not known.
        low, high: smallest and largest value that the model saw; None where they are not known.
    """

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about the numbers of a model.

    Args:
        inputs: the elements of each input, row by row.
        outputs: the class labels of each output, one an element.
        rate_hz: sampling rate of the recordings that the model was trained on.
        decoding: how its outputs become phases and events, read by `edgelstm.io.decoding`.
    """

    inputs: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rate_hz: float | None = None
    decoding: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs or self.rate_hz is not None or self.decoding)

    def names(self, signature: Signature) -> tuple[str, ...]:
        """Columns of all elements of all inputs in order; empty where some are not known."""
        if any(spec.name not in self.inputs for spec in signature.inputs):
            return ()
        return tuple(x.name for spec in signature.inputs for x in self.inputs[spec.name])

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {
            "inputs": {
                name: [
                    {
                        "name": column.name,
                        "unit": column.unit,
                        "range": None if column.low is None else [column.low, column.high],
                    }
                    for column in columns
                ]
                for name, columns in self.inputs.items()
            },
            "outputs": {name: list(labels) for name, labels in self.outputs.items()},
            "rate_hz": self.rate_hz,
            **({"decoding": dict(self.decoding)} if self.decoding else {}),
        }

    @classmethod
    def from_json(cls, data: Any, signature: Signature) -> Description:
        """Read what `to_json` wrote; None is the description that says nothing.

        Raises:
            ValueError: it is malformed, or does not fit the signature.
        """
        if data is None:
            return cls()
        if not isinstance(data, dict) or not all(
            isinstance(data.get(key), dict) for key in ("inputs", "outputs")
        ):
            raise ValueError("the description is no object of inputs and outputs")
        inputs = {name: _read_columns(name, items) for name, items in data["inputs"].items()}
        outputs = {name: _read_labels(name, items) for name, items in data["outputs"].items()}
        decoding = data.get("decoding")
        if decoding is not None and not isinstance(decoding, dict):
            raise ValueError("the decoding is no table")
        found = cls(inputs, outputs, data.get("rate_hz"), decoding)
        faults = description_faults(found, signature)
        if faults:
            raise ValueError(f"description: {'; '.join(faults)}")
        return found


def described_size(spec: TensorSpec, mode: Mode) -> int:
    """Columns of an input, labels of an output: how many elements have names, as the mode says."""
    return mode_of(mode).described_size(spec.shape)


def description_faults(description: Description, signature: Signature) -> list[str]:
    """Why a description does not fit a signature, or cannot be used; empty where it does."""
    faults = [
        *_tensor_faults("input", signature.inputs, description.inputs, signature.mode),
        *_tensor_faults("output", signature.outputs, description.outputs, signature.mode),
    ]
    columns = [column for items in description.inputs.values() for column in items]
    faults += _name_faults("column", [column.name for column in columns])
    for column in columns:
        if column.unit and not _is_text(column.unit):
            faults.append(f"the unit of column {column.name!r} is {column.unit!r}")
        if (column.low is None) != (column.high is None) or (
            column.low is not None
            and column.high is not None
            and not -math.inf < column.low <= column.high < math.inf
        ):
            faults.append(f"the range of column {column.name!r} is {column.low}, {column.high}")
    for labels in description.outputs.values():
        faults += _name_faults("label", labels)
    rate = description.rate_hz
    if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
        faults.append(f"the rate is {rate!r} Hz")
    return faults


def _tensor_faults(
    kind: str, specs: tuple[TensorSpec, ...], items: Mapping[str, tuple[Any, ...]], mode: Mode
) -> list[str]:
    sizes = {spec.name: described_size(spec, mode) for spec in specs}
    faults = [
        f"the model has no {kind} {name!r}; it has {', '.join(map(repr, sizes))}"
        for name in items
        if name not in sizes
    ]
    what = "columns" if kind == "input" else "labels"
    faults += [
        f"{len(found)} {what} for {kind} {name!r}, which has {sizes[name]} elements"
        for name, found in items.items()
        if name in sizes and len(found) != sizes[name]
    ]
    return faults


def _name_faults(what: str, names: list[str] | tuple[str, ...]) -> list[str]:
    faults = [f"{name!r} is no {what}" for name in names if not _is_text(name)]
    if not faults:
        counts = Counter(names)
        faults = [f"{what} {name!r} stands twice" for name, count in counts.items() if count > 1]
    return faults


def _is_text(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME_CHARS
        and name.isprintable()
        and name == name.strip()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_columns(name: str, items: Any) -> tuple[Column, ...]:
    if not isinstance(items, list) or not all(map(_is_column, items)):
        raise ValueError(f"the columns of input {name!r} are malformed")
    return tuple(
        Column(item["name"], item.get("unit", ""), *(item.get("range") or (None, None)))
        for item in items
    )


def _is_column(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    limits = item.get("range")
    is_range = isinstance(limits, list) and len(limits) == 2 and all(map(_is_number, limits))
    texts = (item.get("name"), item.get("unit", ""))
    return (limits is None or is_range) and all(isinstance(text, str) for text in texts)


def _read_labels(name: str, items: Any) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"the labels of output {name!r} are no list of texts")
    return tuple(items)
