"""The law of a Program: sound programs pass, and each rule is broken once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.ops import Unary
from edgelstm_compiler.ir.program import Buffer, Program, Space
from edgelstm_compiler.ir.verify_program import verify_program
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.streaming.convert import to_steps
from tests.graphs import GraphBuilder
from tests.unit.lowering.programs import random_programs


def sound() -> Program:
    """A function of the input, a cell, a function of its output: scratch, states, a workspace."""
    b = GraphBuilder()
    (x,) = b.node(Unary(TANH), b.input("x", 5, 1, 3))
    y, *_ = b.cell(LSTM, x, 4)
    (z,) = b.node(Unary(TANH), y)
    return lower(to_steps(b.graph(z=z)), 16)


def changed(program: Program, number: int, **fields: Any) -> Program:
    """The program with another call in place of one."""
    calls = list(program.calls)
    calls[number] = dataclasses.replace(calls[number], **fields)
    return dataclasses.replace(program, calls=tuple(calls))


def moved(buffer: Buffer | None, **fields: Any) -> Buffer:
    """The buffer elsewhere."""
    assert buffer is not None
    return dataclasses.replace(buffer, **fields)


def swapped(program: Program) -> Program:
    """The first two calls in the wrong order."""
    first, second, *rest = program.calls
    return dataclasses.replace(program, calls=(second, first, *rest))


def overwritten(program: Program) -> Program:
    """The cell's workspace where its input stands, which only a third call would notice."""
    cell = program.calls[1]
    x = cell.inputs[0]
    assert x is not None
    return changed(program, 1, workspace=moved(cell.workspace, offset_bytes=x.offset_bytes))


def outputs_apart(program: Program, offset: int) -> Program:
    """The last call's result elsewhere in the output block."""
    (out,) = program.calls[-1].outputs
    return changed(program, -1, outputs=(moved(out, offset_bytes=offset),))


def first_result(program: Program, **fields: Any) -> Program:
    """The first call's result elsewhere."""
    return changed(program, 0, outputs=(moved(program.calls[0].outputs[0], **fields),))


@pytest.mark.parametrize("unit_block", [16, None])
def test_what_lowering_makes_is_lawful(unit_block: int | None) -> None:
    """Random graphs, in both forms of memory."""
    for program in random_programs(unit_block, count=40):
        verify_program(program)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "which nothing wrote before"),
        (overwritten, "overlap"),
        (lambda p: changed(p, 1, name=p.calls[0].name), "used twice"),
        (lambda p: first_result(p, offset_bytes=1 << 20), "its block at"),
        (lambda p: first_result(p, offset_bytes=68), "not aligned to 64"),
        (lambda p: first_result(p, offset_bytes=0), "within the target's notes"),
        (lambda p: first_result(p, space=Space.INPUT, offset_bytes=0), "is only read"),
        (lambda p: outputs_apart(p, -4), "its block at"),
        (lambda p: dataclasses.replace(p, calls=p.calls[:-1]), "is not written by any call"),
        (lambda p: dataclasses.replace(p, state_init=b""), "its block at 0"),
    ],
)
def test_a_breach_is_named(change: Callable[[Program], Program], message: str) -> None:
    """One mutation for each rule."""
    program = sound()
    verify_program(program)
    with pytest.raises(InvalidGraphError, match=message):
        verify_program(change(program))


def test_what_was_written_over_is_not_read() -> None:
    """A value whose place another call took in between."""
    program = sound()
    first, cell, last = program.calls[:3]
    stale = changed(program, 2, inputs=(moved(cell.workspace, type=first.outputs[0].type),))  # type: ignore[union-attr]
    assert last.inputs[0] is not None
    with pytest.raises(InvalidGraphError, match="was written over it"):
        verify_program(stale)
