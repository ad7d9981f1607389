"""Predictions under the names of their classes: a column `label`, and a column for each class.

The layout depends on the classes alone, not on the shape in which an exporter left the output: a
labelled output becomes as many scalar outputs as it has classes, and `label` passes through as a
column does, so that every sink writes it without knowing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.description import Description
from edgelstm.io.base import Array, Sink
from edgelstm.io.columns import element_names
from edgelstm.signature import Signature, TensorSpec

LABEL = "label"


class NamedOutputs:
    """How the outputs of a model are called.

    Args:
        signature: of the model.
        description: says the classes of its outputs; others keep their names.
        kept: columns that pass through, whose names are taken.
    """

    def __init__(
        self, signature: Signature, description: Description, kept: Sequence[str] = ()
    ) -> None:
        self._specs = signature.outputs
        self._labels = dict(description.outputs)
        taken = set(kept)
        for spec in self._specs:
            if spec.name not in self._labels:
                taken |= {spec.name, *element_names(spec)}
        is_alone = len(self._labels) == 1
        self._label_columns: dict[str, str] = {}
        self._class_columns: dict[str, list[str]] = {}
        for spec in self._specs:
            if spec.name in self._labels:
                name = LABEL if is_alone else f"{spec.name}.{LABEL}"
                self._label_columns[spec.name] = _free(name, f"predicted_{name}", taken)
                self._class_columns[spec.name] = [
                    _free(x, f"{spec.name}.{x}", taken) for x in self._labels[spec.name]
                ]
        outputs = [item for spec in self._specs for item in self._columns_of(spec)]
        self.signature = dataclasses.replace(signature, outputs=tuple(outputs))
        """What a sink is to write: a labelled output has an output for each class."""
        self.kept = (*kept, *self._label_columns.values())
        """What passes through, and the labels."""

    def _columns_of(self, spec: TensorSpec) -> list[TensorSpec]:
        columns = self._class_columns.get(spec.name)
        if columns is None:
            return [spec]
        return [dataclasses.replace(spec, name=name, shape=()) for name in columns]

    def apply(
        self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, Array], dict[str, Sequence[Any]]]:
        """Outputs and passing columns of some frames as `signature` and `kept` have them."""
        named: dict[str, Array] = {}
        passing = dict(kept)
        for spec in self._specs:
            columns = self._class_columns.get(spec.name)
            if columns is None:
                named[spec.name] = outputs[spec.name]
                continue
            table = outputs[spec.name].reshape(-1, len(columns))
            named |= {name: table[:, k] for k, name in enumerate(columns)}
            labels = np.array(self._labels[spec.name])
            # A prediction that is not finite says nothing about the class.
            best = np.where(np.isfinite(table).all(axis=1), table.argmax(axis=1), -1)
            passing[self._label_columns[spec.name]] = [
                str(labels[k]) if k >= 0 else "" for k in best
            ]
        return named, passing


class NamedSink:
    """A sink that takes the model's outputs and writes them under their names.

    Args:
        sink: opened for `NamedOutputs.signature` and `kept`.
        named: the names.
    """

    def __init__(self, sink: Sink, named: NamedOutputs) -> None:
        self._sink = sink
        self._named = named

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write `(n, *output)` by name, with the columns that pass through."""
        self._sink.write(*self._named.apply(outputs, kept))

    def flush(self) -> None:
        """Hand on what was written so far."""
        self._sink.flush()

    def finish(self) -> None:
        """Write what can only be written at the end."""
        self._sink.finish()


def _free(name: str, other: str, taken: set[str]) -> str:
    """The name, or another one where it is taken; taken from here on."""
    while name in taken:
        name, other = other, f"{other}_"
    taken.add(name)
    return name
