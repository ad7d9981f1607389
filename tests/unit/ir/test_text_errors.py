"""The text form: lines that are not in it are refused, quoted and numbered."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.fields import make_op
from edgelstm_compiler.ir.text import parse_graph, print_graph
from tests.unit.ir.strategies import graphs

HEAD = 'graph "g"\nin %x: f32[2]\n'
LINES = [
    "nonsense",
    "in",
    "in x: f32[2]",
    "in %x: f32[2]",
    "in %y f32[2]",
    "in %y: f31[2]",
    "in %y: f32[a]",
    "in %y: f32[2",
    "in %y: f32[2] trailing",
    "const %c: f32[2] = [1.0]",
    "const %c: f32[2] = 1.0",
    "const %c: f32[2] = [1.0, [2.0]]",
    "const %c: u8[1] = [300]",
    "const %c: i64[1] = [99999999999999999999999]",
    "const %c: f32[1] = [1e39]",
    "const %c: f16[1] = [65520.0]",
    "const %c: i32[1] = [1.5]",
    "const %c: i32[1] = [true]",
    "const %c: f32[1] = [true]",
    "const %c: bool[1] = [1]",
    'const %c: f32[1] = ["1.5"]',
    "const %c: f32[1] = [null]",
    "const %c: f32[2] = @0123456789abcdef",
    "const %c: f32[2] = @short",
    "const %c: f32[2] = " + "[" * 100_000,
    "state h: f32[2] init=[0.0, 0.0] read=%x write=%x",
    "state h: f32[2] read=%h write=%x",
    '%y: f32[2] = Frobnicate {} (%x) # "n" ""',
    '%y: f32[2] = Unary {} (%x) # "n" ""',
    '%y: f32[2] = Unary {"activation": 3} (%x) # "n" ""',
    '%y: f32[2] = Unary {"activation": {"fn": "no", "alpha": 0, "beta": 0}} (%x) # "n" ""',
    '%y: f32[2] = Softmax {"axis": 1.5} (%x) # "n" ""',
    '%y: f32[2] = Softmax {"axis": true} (%x) # "n" ""',
    '%y: f32[2] = Softmax {"axis": 0, "extra": 1} (%x) # "n" ""',
    '%y: f32[2] = Softmax [0] (%x) # "n" ""',
    '%y: f32[2] = Transpose {"perm": 0} (%x) # "n" ""',
    '%y: f32[2] = Transpose {"perm": "0"} (%x) # "n" ""',
    '%y: f32[2] = Softmax {"axis": 0} (%z) # "n" ""',
    '%y: f32[2] = Softmax {"axis": 0} (%x # "n" ""',
    '%y: f32[2] = Softmax {"axis": 0} (%x) # "n"',
    '%x: f32[2] = Softmax {"axis": 0} (%x) # "n" ""',
    'out "y" = %z',
    "out y = %x",
    'out "y" = %x stride=one',
    'out "y" = %x time=a',
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:60])
def test_a_line_that_is_not_in_the_form_is_quoted_with_its_number(line: str) -> None:
    """The third line is wrong: the error says so."""
    with pytest.raises(InvalidGraphError, match=r"^line 3: ") as caught:
        parse_graph(HEAD + line)
    assert repr(line) in str(caught.value)


@pytest.mark.parametrize("head", ["", "nonsense", "graph g", "step", 'step "s"', 'step "s" mode=x'])
def test_a_text_without_a_head_is_refused(head: str) -> None:
    """The first line says which stage, its name and mode."""
    with pytest.raises(InvalidGraphError):
        parse_graph(head)


def test_a_state_that_writes_an_unknown_value_is_refused() -> None:
    """States come before the nodes, so this shows at the end."""
    text = 'step "s" mode=stream\nstate h: f32[1] init=[0.0] read=%h write=%new\n'
    with pytest.raises(InvalidGraphError, match=r"'new'"):
        parse_graph(text)


@given(graphs(), st.data())
def test_a_damaged_text_is_read_or_refused(graph: Any, data: st.DataObject) -> None:
    """A text with some characters changed never fails in another way."""
    text = list(print_graph(graph))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from('%:=,()[]{}"#@-x1 \n') | st.just(""))
    with contextlib.suppress(InvalidGraphError):
        parse_graph("".join(text))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Softmax", {"axis": "1"}),
        ("Softmax", {"axis": None}),
        ("LSTM", {"hidden": 1, "direction": "sideways", "activations": [], "clip": None}),
        ("LayerNorm", {"axis": 0, "epsilon": "1e-5"}),
        ("GRU", {"linear_before_reset": 1}),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(kind: str, fields: dict[str, Any]) -> None:
    """Types are checked, not converted."""
    with pytest.raises(ValueError, match=r"not"):
        make_op(kind, fields)


def test_an_integer_is_a_float() -> None:
    """JSON written elsewhere may leave away the point."""
    assert make_op("LayerNorm", {"axis": 0, "epsilon": 1}).epsilon == 1.0  # type: ignore[attr-defined]
