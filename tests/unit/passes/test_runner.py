"""The runner: order, verification, records, dumps and failures."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import InvalidGraphError, ModelError, PassError
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Softmax
from edgelstm_compiler.ir.text import parse_graph, print_graph, same_structure
from edgelstm_compiler.passes.context import PassContext, dump_graph, run_passes
from edgelstm_compiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from edgelstm_compiler.passes.fuse_dense import fuse_dense
from edgelstm_compiler.streaming.convert import to_steps
from tests.graphs import GraphBuilder


def small_graph() -> Graph:
    """A cell, a constant that is long enough to stand beside the text, and a dead node."""
    b = GraphBuilder()
    y, _, _ = b.cell(LSTM, b.input("x", 3, 1, 4), 5)
    b.node(Softmax(3), y)
    return b.graph(y=y)


def keep(graph: Any, ctx: PassContext) -> Any:
    """A pass with nothing to do."""
    return graph


def crash(graph: Any, ctx: PassContext) -> Any:
    """A pass that fails."""
    raise ZeroDivisionError("oh")


def break_law(graph: Any, ctx: PassContext) -> Any:
    """A pass that gives an illegal graph."""
    return dataclasses.replace(graph, nodes=graph.nodes[1:])


def refuse(graph: Any, ctx: PassContext) -> Any:
    """A pass that finds fault with the model."""
    raise ModelError("not like this")


def test_records_say_what_changed() -> None:
    """One record per pass, in order."""
    _, records = run_passes(small_graph(), (keep, eliminate_dead_nodes, fuse_dense), PassContext())
    assert [(record.name, record.changed) for record in records] == [
        ("keep", False),
        ("eliminate_dead_nodes", True),
        ("fuse_dense", False),
    ]
    assert all(record.seconds >= 0 for record in records)


def test_a_graph_that_no_pass_changes_comes_back() -> None:
    """The same object."""
    graph = small_graph()
    assert run_passes(graph, (keep, fuse_dense), PassContext())[0] is graph


def test_a_failure_names_the_pass_and_those_before_it() -> None:
    """So that a report says where to look."""
    with pytest.raises(PassError) as caught:
        run_passes(small_graph(), (keep, fuse_dense, crash), PassContext())
    assert caught.value.name == "crash"
    assert caught.value.done == ("keep", "fuse_dense")
    assert "pass crash failed: oh" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_pass_that_breaks_the_law_is_named() -> None:
    """The graph is verified after every pass that changed it."""
    with pytest.raises(PassError) as caught:
        run_passes(small_graph(), (break_law,), PassContext())
    assert caught.value.name == "break_law"
    assert isinstance(caught.value.__cause__, InvalidGraphError)
    assert "passes done before: none" in str(caught.value)


def test_a_fault_of_the_model_is_no_fault_of_the_pass() -> None:
    """The user's errors go through as they are."""
    with pytest.raises(ModelError, match="not like this"):
        run_passes(small_graph(), (refuse,), PassContext())


def test_dumps_are_numbered_and_parse_back(tmp_path: Path) -> None:
    """The text after each pass, with its data beside it, is the graph after each pass."""
    ctx = PassContext(dump=tmp_path / "new" / "folder")
    graph = small_graph()
    dump_graph(graph, "imported", ctx)
    after, _ = run_passes(graph, (keep, eliminate_dead_nodes), ctx)
    assert ctx.dump is not None
    files = sorted(path.name for path in ctx.dump.glob("*.txt"))
    assert files == ["00_imported.txt", "01_keep.txt", "02_eliminate_dead_nodes.txt"]
    for name, expected in zip(files, (graph, graph, after), strict=True):
        with np.load(ctx.dump / name.replace(".txt", ".npz")) as data:
            read = parse_graph((ctx.dump / name).read_text(encoding="utf-8"), dict(data))
        assert same_structure(read, expected)


def test_a_dump_of_a_step_graph_parses_back(tmp_path: Path) -> None:
    """States with their initial values too."""
    step = to_steps(small_graph())
    dump_graph(step, "steps", PassContext(dump=tmp_path))
    with np.load(tmp_path / "00_steps.npz") as data:
        text = (tmp_path / "00_steps.txt").read_text(encoding="utf-8")
        assert print_graph(parse_graph(text, dict(data))) == print_graph(step)


def test_nothing_is_dumped_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no files."""
    monkeypatch.chdir(tmp_path)
    run_passes(small_graph(), (keep,), PassContext())
    assert not list(tmp_path.iterdir())


def test_passes_report_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    """At debug level, one line per pass."""
    with caplog.at_level(logging.DEBUG, "edgelstm.passes"):
        run_passes(small_graph(), (keep, eliminate_dead_nodes), PassContext())
    assert caplog.messages == ["keep: nothing to do", "eliminate_dead_nodes: changed"]
