"""What a pass is, and the runner that verifies, times and dumps each of them."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import EdgeLSTMError, OutputError, PassError
from edgelstm.output_folder import check_folder
from edgelstm.outputs import write_output
from edgelstm_compiler.ir.graph import AnyGraph, Graph, StepGraph
from edgelstm_compiler.ir.text import graph_data, print_graph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.ir.verify import verify

_NUMBER = re.compile(r"\d{2,6}(?=_)")
_LOGGER = logging.getLogger("edgelstm.passes")


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass did."""

    name: str
    changed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass may read: options and a logger, no results.

    Args:
        dump: folder for the text after each pass, or None.
        logger: where passes say what they did.
    """

    dump: Path | None = None
    logger: logging.Logger = field(default=_LOGGER)


Pass = Callable[[Any, PassContext], Any]


def run_passes(
    graph: AnyGraph, passes: Sequence[Pass], ctx: PassContext
) -> tuple[AnyGraph, tuple[PassRecord, ...]]:
    """Run passes in order, verifying after each.

    Raises:
        PassError: a pass failed or broke the graph; names it and those before it.
    """
    records: list[PassRecord] = []
    for transform in passes:
        name = transform.__name__
        start = time.perf_counter()
        try:
            result: AnyGraph = transform(graph, ctx)
            if result is not graph:
                verify(result)
        except Exception as error:
            if isinstance(error, EdgeLSTMError) and error.exit_code != 70:
                raise
            raise PassError(name, [record.name for record in records], str(error)) from error
        changed = result is not graph
        records.append(PassRecord(name, changed, time.perf_counter() - start))
        ctx.logger.debug("%s: %s", name, "changed" if changed else "nothing to do")
        graph = result
        dump_graph(graph, name, ctx)
    return graph, tuple(records)


def dump_graph(graph: Graph | StepGraph, name: str, ctx: PassContext) -> None:
    """Write the text form and its data under `ctx.dump`, numbered in order."""
    if ctx.dump is not None:
        dump_text(print_graph(graph), name, ctx.dump, graph_data(graph))


def dump_text(text: str, name: str, folder: Path, data: Mapping[str, Array] | None = None) -> None:
    """Write a stage's text, and its data beside it, numbered behind all that is there.

    Raises:
        OutputError: the folder cannot be written.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [
            int(found[0]) for entry in folder.iterdir() if (found := _NUMBER.match(entry.name))
        ]
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    stem = f"{max(numbers, default=-1) + 1:02d}_{name}"
    write_output(folder / f"{stem}.txt", text.encode())
    if data is not None:
        file = io.BytesIO()
        arrays: dict[str, Any] = dict(data)
        np.savez(file, **arrays)
        write_output(folder / f"{stem}.npz", file.getvalue())
