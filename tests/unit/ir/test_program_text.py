"""The text form of a Program: what a target was given, to read."""

from __future__ import annotations

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import GRU
from edgelstm_compiler.ir.program_text import print_program
from edgelstm_compiler.ir.text import parse_graph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.streaming.convert import to_steps
from tests.conftest import GoldenCheck
from tests.graphs import GraphBuilder

STEP = """
step "gru" mode=stream
in %x: f32[1,1,2] time=0 batch=1
const %w: f32[1,6,2] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
const %r: f32[1,6,2] = [1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1]
const %head: f32[2,3] = [1, 2, 3, 4, 5, 6]
state h: f32[1,1,2] init=[0, 0] read=%h_in write=%h_out
%y: f32[1,1,1,2], %h_out: f32[1,1,2] = GRU {"activations": [
  {"alpha": 0.0, "beta": 0.0, "fn": "sigmoid"}, {"alpha": 0.0, "beta": 0.0, "fn": "tanh"}],
  "clip": null, "direction": "forward", "hidden": 2, "linear_before_reset": false}
  (%x, %w, %r, -, -, %h_in, -, -) # "gru" "GRU 'gru'"
%p: f32[1,1,3] = Dense {"activation": null} (%h_out, %head, -) # "head" "MatMul 'head'"
out "p" = %p time=- batch=1
""".replace("\n  ", " ")


def program_lines(unit_block: int | None) -> list[str]:
    """The printed program of a small GRU."""
    b = GraphBuilder()
    y, y_h = b.cell(GRU, b.input("x", 5, 1, 3), 4)
    return print_program(lower(to_steps(b.graph(y=y, y_h=y_h)), unit_block)).splitlines()


def test_blocks_inputs_outputs_and_states_are_listed() -> None:
    """Each with its type and place."""
    lines = program_lines(16)
    assert lines[0] == "program model mode=stream"
    assert "in 'x': f32[3] at 0" in lines
    assert "out 'y': f32[1, 4] at 0" in lines
    assert "out 'y_h': f32[1, 4] at 16" in lines
    assert "state 'gru0.h': f32[1, 1, 4] at 0" in lines


def test_every_call_has_a_line_with_its_buffers() -> None:
    """Kernel, places of inputs and outputs, workspace, name; no weights."""
    (call,) = [line for line in program_lines(16) if "RecurrentKernel" in line]
    assert "state+0: f32[1,1,4]" in call
    assert "workspace scratch+" in call
    assert call.endswith("# gru0")


def test_the_same_program_prints_the_same() -> None:
    """Nothing in the text depends on identities."""
    assert program_lines(16) == program_lines(16)


def test_text_of_a_program(golden: GoldenCheck) -> None:
    """The whole text, to look at: a cell with its state, and a head."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    golden("program_gru", print_program(lower(graph, 4)))
