"""The text form of a Program: what a target was given, printed and parsed back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.cells import GRU
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.program import Program, ScanKernel
from edgelstm_compiler.ir.program_text import parse_program, print_program, program_data
from edgelstm_compiler.ir.text import parse_graph
from edgelstm_compiler.ir.verify_program import verify_program
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.streaming.convert import to_steps
from tests.conftest import GoldenCheck
from tests.graphs import GraphBuilder
from tests.models import gru_model, lstm_model, stacked_model
from tests.quantized_models import quantized, step_graph
from tests.unit.lowering.programs import random_programs

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
    assert lines[0].startswith('program "model" mode=stream rate_hz=- ')
    assert 'in "x": f32[3] at 0' in "\n".join(lines)
    assert 'out "y": f32[1,4] at 0' in "\n".join(lines)
    assert 'out "y_h": f32[1,4] at 16' in "\n".join(lines)
    assert 'state "gru0.h": f32[1,1,4] at 0' in lines


def test_every_call_has_a_line_with_its_buffers() -> None:
    """Kernel, places of inputs and outputs, workspace, name; no weights."""
    (call,) = [line for line in program_lines(16) if "RecurrentKernel" in line]
    assert call.count("state+0 gru0.h") == 2
    assert "workspace scratch+" in call
    assert '# "gru0" "' in call


def test_the_same_program_prints_the_same() -> None:
    """Nothing in the text depends on identities."""
    assert program_lines(16) == program_lines(16)


def test_text_of_a_program(golden: GoldenCheck) -> None:
    """The whole text, to look at: a cell with its state, and a head."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    golden("program_gru", print_program(lower(graph, 4)))


def assert_parses_back(program: Program) -> None:
    """Text and data give a program that prints alike, is lawful, and has the same bytes."""
    text = print_program(program)
    again = parse_program(text, program_data(program))
    assert print_program(again) == text
    assert again.signature == program.signature
    assert (again.weights, again.state_init) == (program.weights, program.state_init)
    for call, found in zip(program.calls, again.calls, strict=True):
        if isinstance(call.kernel, ScanKernel):
            assert isinstance(found.kernel, ScanKernel)
            assert_parses_back(call.kernel.body)
        else:
            assert found.kernel == call.kernel
    verify_program(again)


@pytest.mark.parametrize("unit_block", [16, None])
def test_programs_of_random_graphs_parse_back(unit_block: int | None) -> None:
    """Whatever operators and shapes."""
    for program in random_programs(unit_block, count=20):
        assert_parses_back(program)


@pytest.mark.parametrize("scheme", [scheme for scheme in Scheme if scheme is not Scheme.FP32])
@pytest.mark.parametrize("make", [lstm_model, gru_model, stacked_model])
def test_quantized_programs_parse_back(make: Any, scheme: Scheme) -> None:
    """Kernels within kernels, integer operators, tables."""
    result = quantized(step_graph(make(), "call"), scheme)
    assert_parses_back(lower(result.graph, 16, weight_offset=128))


def test_a_parsed_program_computes_the_same() -> None:
    """Run beside the one it was printed from."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    program = lower(graph, 4)
    again = parse_program(print_program(program), program_data(program))
    x = np.array([[[0.3, -0.7]]], np.float32)
    runners = ProgramRunner(program), ProgramRunner(again)
    for _ in range(3):
        first, second = (runner.step({"x": x}) for runner in runners)
        np.testing.assert_array_equal(first["p"], second["p"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('program "', 'programme "', "line 1: .* expected 'program '"),
        ("RecurrentKernel", "RecurrentKernal", "RecurrentKernal"),
        ('"phases": 0', '"phases": 7', "line 7: .* 7"),
        ("state+0", "stage+0", "line 7: .* expected input"),
        ("weights=@", "weights=@0", "line 2: "),
        ('"hidden": 2', '"hidden": "2"', "is not of type int"),
        ("# ", "", "line 7: .* expected '#'"),
    ],
)
def test_what_is_not_in_the_form_is_quoted(old: str, new: str, message: str) -> None:
    """The line, its number, and what was expected there."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    program = lower(graph, 4)
    text = print_program(program).replace(old, new)
    with pytest.raises(InvalidGraphError, match=message):
        parse_program(text, program_data(program))


def test_data_is_checked_against_its_digest() -> None:
    """Weights that are missing, or others, are refused."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    program = lower(graph, 4)
    text, data = print_program(program), program_data(program)
    with pytest.raises(InvalidGraphError, match="is missing beside the text"):
        parse_program(text, {})
    with pytest.raises(InvalidGraphError, match="is not that of"):
        parse_program(text, {name: block[::-1] for name, block in data.items()})


def test_windows_that_share_their_frames() -> None:
    """Told in the second line, and read back."""
    graph = parse_graph(STEP)
    assert isinstance(graph, StepGraph)
    program = replace(lower(graph, 16), shares_frames=True)
    text = print_program(program)
    assert text.splitlines()[1].endswith(" shares_frames")
    assert parse_program(text, program_data(program)).shares_frames
