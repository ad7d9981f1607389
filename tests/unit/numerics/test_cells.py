"""Cells as data: what they say of themselves, their form in artifacts, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactFormatError, ArtifactVersionError
from edgelstm.numerics.cells import (
    Apply,
    Cell,
    CellPhase,
    Flush,
    Gate,
    Let,
    Matrix,
    Peephole,
    Range,
    State,
    StateForm,
    Store,
    Sum,
    Term,
    expect_sound,
)
from edgelstm.numerics.documents import cell_document, read_cell
from edgelstm.numerics.legacy import LEGACY, modern
from edgelstm_compiler.ir.cells import CELLS, GRU, LSTM, RNN
from edgelstm_compiler.ir.ops import Direction
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.reference import emit_program
from edgelstm_compiler.streaming.convert import to_steps
from tests.graphs import GraphBuilder

VARIANTS: list[tuple[Any, dict[str, Any], bool]] = [
    (LSTM, {}, False),
    (LSTM, {}, True),
    (LSTM, {"input_forget": True}, False),
    (LSTM, {"input_forget": True}, True),
    (GRU, {}, False),
    (GRU, {"linear_before_reset": True}, False),
    (RNN, {}, False),
]


def cell_of(kind: Any, fields: dict[str, Any], peepholes: bool) -> Cell:
    """The data of a variant."""
    cell: Cell = kind(4, Direction.FORWARD, (), None, **fields).cell(peepholes=peepholes)
    return cell


@pytest.mark.parametrize(("kind", "fields", "peepholes"), VARIANTS, ids=str)
def test_a_cell_comes_back_from_its_document(
    kind: Any, fields: dict[str, Any], peepholes: bool
) -> None:
    """By way of JSON."""
    cell = cell_of(kind, fields, peepholes)
    expect_sound(cell)
    assert read_cell(json.loads(json.dumps(cell_document(cell)))) == cell


@pytest.mark.parametrize(("kind", "fields", "peepholes"), VARIANTS, ids=str)
def test_programs_of_format_1_mean_the_same_cell(
    kind: Any, fields: dict[str, Any], peepholes: bool
) -> None:
    """The stored cells are those that are built today."""
    shared = {"hidden": 4, "direction": "forward", "activations": [], "clip": None}
    flags = {f.name: fields.get(f.name, False) for f in dataclasses.fields(kind)[4:]}
    inputs = [object()] * 3 + [None] * 4 + [object() if peepholes else None]
    name = kind.__name__
    for old, (today, of) in LEGACY.items():
        if of != name:
            continue
        given = {**shared, **flags}
        found = modern(old, given if old == name else {"cell": given}, inputs)
        assert found[0] == today
        assert found[1]["cell"] == cell_of(kind, fields, peepholes)


def test_every_cell_has_gates_that_can_be_traced() -> None:
    """Each with its own name, in order."""
    for kind in CELLS:
        cell = kind(4, Direction.FORWARD, (), None).cell()
        assert [gate.gate for gate in cell.traced_gates] == list(range(len(cell.gates)))


def small(
    *body: Let | Store,
    sums: tuple[Sum, ...] = (Sum("s", (Term(Matrix.W, 0, "x"),)),),
    phases: int = 1,
) -> Cell:
    """A cell of one gate and one state."""
    phase = CellPhase(sums, body)
    return Cell("small", ("gate",), (State("h", StateForm.SIGNED),), (phase,) * phases)


GATE = Let("y", Gate("s", 0, Range.SIGNED))
UNSOUND = {
    "read before": small(Let("y", Flush("z")), Store("h", "y")),
    "no row": small(Let("p", Peephole("s", 0, "h")), GATE, Store("h", "y")),
    "computed twice": small(GATE, GATE, Store("h", "y")),
    "nothing reads 'z'": small(GATE, Let("z", Flush("y")), Store("h", "y")),
    "states": small(GATE, Store("other", "y")),
    "functions": small(Let("y", Apply(1, "h")), Store("h", "y")),
    "term": small(GATE, Store("h", "y"), sums=(Sum("s", (Term(Matrix.W, 1, "x"),)),)),
    "W multiplies x": small(GATE, Store("h", "y"), sums=(Sum("s", (Term(Matrix.R, 0, "x"),)),)),
}


@pytest.mark.parametrize("message", UNSOUND)
def test_what_contradicts_itself_is_refused(message: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValueError, match=message):
        read_cell(cell_document(UNSOUND[message]))


def reference_artifact(change: Any) -> Artifact:
    """An LSTM for the reference engine, whose program somebody changed."""
    b = GraphBuilder()
    y, h, c = b.cell(LSTM, b.input("x", 5, 1, 3), 4)
    program = lower(to_steps(b.graph(y=y, h=h, c=c)), None)
    emission = emit_program(program)
    document = json.loads(emission.sections["program"])
    change(document)
    return Artifact.create(
        signature=program.signature,
        engine=emission.engine,
        target="reference",
        weights=program.weights,
        state_init=program.state_init,
        scratch_bytes=program.scratch_bytes,
        sections={"program": json.dumps(document).encode()},
    )


def test_an_unknown_node_is_of_a_newer_edgelstm() -> None:
    """By name, with a way out."""

    def change(document: dict[str, Any]) -> None:
        document["nodes"][0]["fields"]["cell"]["phases"][0]["body"][0]["node"] = "Entangle"

    with pytest.raises(ArtifactVersionError, match=r"node 'Entangle'.*update edgelstm, or compile"):
        reference_artifact(change).session()


def test_a_newer_program_is_of_a_newer_edgelstm() -> None:
    """Its number is named."""
    with pytest.raises(ArtifactVersionError, match="format 4, this edgelstm reads up to 3"):
        reference_artifact(lambda document: document.update(version=4)).session()


def test_a_malformed_cell_is_a_malformed_artifact() -> None:
    """Names that nothing computes."""

    def change(document: dict[str, Any]) -> None:
        document["nodes"][0]["fields"]["cell"]["phases"][0]["body"][0]["sum"] = "nothing"

    with pytest.raises(ArtifactFormatError, match="'nothing' is read before it is computed"):
        reference_artifact(change).session()
