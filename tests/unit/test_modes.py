"""A mode is an object that is asked; hardly anybody compares its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from edgelstm.errors import ArtifactFormatError, ModelError
from edgelstm.sessions import MODES, mode_of
from edgelstm_compiler.streaming.modes import MODES as COMPILE_MODES
from edgelstm_compiler.streaming.modes import compile_mode

ROOT = Path(__file__).parents[2]
MOST = 6
"""Files that may compare a mode."""

_ASKING = tuple(
    f"{prefix}{name}{suffix}"
    for name in MODES
    for prefix, suffix in (("is_", ""), ("_is_", ""), ("is_", "_mode"), ("has_", ""))
)


def compares_a_mode(source: str) -> list[int]:
    """Lines that tell modes apart: by name, by a predicate of that name, or by class."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        operands: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            if isinstance(node.ops[0], (ast.In, ast.NotIn)) and isinstance(node.left, ast.Constant):
                operands = []  # whether an object has a part of that name
        elif isinstance(node, ast.Match):
            operands = [
                node.subject,
                *(p.value for p in ast.walk(node) if isinstance(p, ast.MatchValue)),
            ]
        elif isinstance(node, ast.Dict) and all(_names_a_mode(key) for key in node.keys if key):
            operands = [key for key in node.keys if key is not None]  # a table by mode
        elif (isinstance(node, ast.Attribute) and node.attr in _ASKING) or (
            isinstance(node, ast.Name) and node.id in _ASKING
        ):
            lines.append(node.lineno)
        elif isinstance(node, ast.Call) and _called(node) == "isinstance":
            names = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
            if names & {mode.session.__name__ for mode in MODES.values()}:
                lines.append(node.lineno)
        if any(_names_a_mode(operand) for operand in operands):
            lines.append(node.lineno)
    return lines


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _names_a_mode(operand: ast.expr) -> bool:
    items = operand.elts if isinstance(operand, (ast.Tuple, ast.List, ast.Set)) else [operand]
    return any(isinstance(item, ast.Constant) and item.value in tuple(MODES) for item in items)


def test_few_files_compare_a_mode() -> None:
    """What a mode asks for stands in its own files."""
    found = {
        str(path.relative_to(ROOT)): lines
        for package in ("edgelstm", "compiler", "targets")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := compares_a_mode(path.read_text(encoding="utf-8")))
    }
    assert len(found) <= MOST, found


@pytest.mark.parametrize(
    "source",
    [
        'if graph.mode == "call": pass',
        'x = 1 if signature.mode != "stream" else 2',
        'units = {"stream": "step", "call": "call"}[mode]',
        'if mode in ("call", "window"): pass',
        "if signature.is_call: pass",
        "if session._is_stream: pass",
        'match mode:\n    case "call":\n        pass',
        "if isinstance(session, CallSession): pass",
    ],
)
def test_each_way_of_comparing_is_found(source: str) -> None:
    """The count cannot be lowered by writing a comparison another way."""
    assert compares_a_mode(source)


@pytest.mark.parametrize(
    "source", ['graph = StepGraph(name, "call")', "mode_of(name).unit", "if mode in MODES: pass"]
)
def test_naming_or_asking_a_mode_is_no_comparison(source: str) -> None:
    """Making something in a mode, and asking the mode's object, is how it is meant."""
    assert not compares_a_mode(source)


def test_both_tables_have_the_same_modes() -> None:
    """What the compiler makes, the runtime runs."""
    assert list(MODES) == list(COMPILE_MODES)


def test_an_unknown_mode_is_refused_by_name() -> None:
    """Artifacts of newer compilers, and typing errors."""
    with pytest.raises(ArtifactFormatError, match=r"'dream'.*stream and call"):
        mode_of("dream")
    with pytest.raises(ModelError, match=r"'dream'.*stream, call"):
        compile_mode("dream")
