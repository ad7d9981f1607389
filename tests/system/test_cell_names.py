"""A cell is known by one file: nothing else names it, or tells cells apart by counting."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("edgelstm", "compiler", "targets")
APART = ("numba_cuda", "onnx_import")
"""Hand-placed device cells, and the import, which reads ONNX's names."""

MOST_FILES = 8
NAME = re.compile(r"(?<![A-Za-z])(Int8|Integer)?(LSTM|GRU|RNN)s?(?![A-Za-z])|lstm|gru\b|_rnn|rnn_")
COUNTED = ("gates", "states", "phases")


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every source file outside of the rooms apart, by its path."""
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            if not set(path.parts) & set(APART):
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def words(tree: ast.Module) -> Iterator[str]:
    """Identifiers, and texts of one word: a sentence speaks to people and decides nothing."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word):
                yield word
            case ast.ClassDef(name=word) | ast.FunctionDef(name=word) | ast.arg(arg=word):
                yield word
            case ast.alias(name=word):
                yield word
            case ast.ImportFrom(module=str(word)):
                yield word
            case ast.Constant(value=str(word)) if not re.search(r"\s", word):
                yield word


def names_a_cell(word: str) -> bool:
    """Whether a word has the name of a cell in it; the project's own name is none."""
    return NAME.search(re.sub(r"(?i)edgelstm", "", word)) is not None


def test_few_files_name_a_cell() -> None:
    """Its own file, the table, programs of format 1, and what stands outside: ONNX, torch."""
    found = [path for path, tree in trees() if any(map(names_a_cell, words(tree)))]
    assert len(found) <= MOST_FILES, found


def test_cells_are_not_told_apart_by_counting() -> None:
    """No comparison of the number of gates, states or phases with a number of some cell."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            numbers = [side for side in sides if isinstance(side, ast.Constant)]
            if any(type(n.value) is int and n.value > 0 for n in numbers) and any(
                map(counts, sides)
            ):
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert not found, found


def counts(side: ast.expr) -> bool:
    """Whether an expression is the number of gates, states or phases of something."""
    match side:
        case ast.Call(func=ast.Name(id="len"), args=[ast.Attribute(attr=word)]):
            return word in COUNTED
        case ast.Attribute(attr=word):
            return word in ("state_count", "gates")
    return False
