"""Cells as JSON data in section `program` of an artifact, and back.

```
{"name", "gates": [name], "states": [{"name", "form"}], "peepholes": rows,
 "phases": [{"sums": [{"name", "terms": [[matrix, gate, operand]]}],
             "body": [{"let": name, "node": kind, ...} or {"store": target, "value": name}]}]}
```
A node that this runtime does not know is one of a newer edgelstm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from edgelstm.errors import ArtifactVersionError
from edgelstm.numerics.cells import (
    NODES,
    Cell,
    CellPhase,
    Let,
    Matrix,
    Node,
    Range,
    State,
    StateForm,
    Store,
    Sum,
    Term,
    expect_sound,
)

_BY_NAME = {node.__name__: node for node in NODES}


def cell_document(cell: Cell) -> dict[str, Any]:
    """A cell as JSON data."""
    return {
        "name": cell.name,
        "gates": list(cell.gates),
        "states": [{"name": state.name, "form": state.form.value} for state in cell.states],
        "peepholes": cell.peepholes,
        "phases": [
            {
                "sums": [
                    {
                        "name": total.name,
                        "terms": [[t.matrix.value, t.gate, t.operand] for t in total.terms],
                    }
                    for total in phase.sums
                ],
                "body": [_statement_document(statement) for statement in phase.body],
            }
            for phase in cell.phases
        ],
    }


def read_cell(document: Mapping[str, Any]) -> Cell:
    """The cell that `cell_document` wrote.

    Raises:
        ArtifactVersionError: a node that this runtime does not know.
        ValueError, KeyError, TypeError: the document is malformed.
    """
    cell = Cell(
        str(document["name"]),
        tuple(map(str, document["gates"])),
        tuple(State(str(s["name"]), StateForm(s["form"])) for s in document["states"]),
        tuple(
            CellPhase(
                tuple(
                    Sum(
                        str(total["name"]),
                        tuple(
                            Term(Matrix(m), int(gate), str(at)) for m, gate, at in total["terms"]
                        ),
                    )
                    for total in phase["sums"]
                ),
                tuple(_read_statement(statement) for statement in phase["body"]),
            )
            for phase in document["phases"]
        ),
        int(document["peepholes"]),
    )
    expect_sound(cell)
    return cell


def _statement_document(statement: Let | Store) -> dict[str, Any]:
    if isinstance(statement, Store):
        return {"store": statement.target, "value": statement.value}
    node: Any = statement.node
    fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    plain = {
        name: value.value if isinstance(value, Enum) else value for name, value in fields.items()
    }
    return {"let": statement.name, "node": type(node).__name__, **plain}


def _read_statement(item: Mapping[str, Any]) -> Let | Store:
    if "store" in item:
        return Store(str(item["store"]), str(item["value"]))
    kind = _BY_NAME.get(item["node"])
    if kind is None:
        raise ArtifactVersionError(
            f"section 'program' has a cell with a node {item['node']!r}, which this edgelstm does "
            "not know: it was made by a newer one; update edgelstm, or compile the model again"
        )
    given = {name: value for name, value in item.items() if name not in ("let", "node")}
    return Let(str(item["let"]), _read_node(kind, given))


def _read_node(kind: type[Node], given: Mapping[str, Any]) -> Node:
    numbers = {"function": int, "row": int, "range": Range}
    values = {name: numbers.get(name, str)(value) for name, value in given.items()}
    return kind(**values)
