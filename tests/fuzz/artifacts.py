"""Artifacts of random step graphs, and the same model on every engine of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from edgelstm.artifact import Artifact
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.engines.native import ISA_VARIABLE
from edgelstm.errors import CapabilityError, ModelError, TargetUnavailableError
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.whole_call import whole_call
from edgelstm_compiler.target import find_target, run_stages
from edgelstm_targets.processors.x86 import X86_64
from tests.graphs import random_graph

LEVELS = tuple(isa.name for isa in X86_64 if cpu_flags().issuperset(isa.requires))
"""Levels of x86-64 that this machine runs."""


def artifact_of(graph: StepGraph, target: str) -> Artifact:
    """A step graph compiled for a target, unchecked."""
    backend = find_target(target)
    takes = backend.capabilities()
    program = lower(graph, takes.unit_block, None, takes.weight_offset, takes.packing)
    emission = run_stages(backend, program, backend.options({}))
    return Artifact.create(
        signature=program.signature,
        engine=emission.engine,
        target=target,
        weights=program.weights,
        state_init=program.state_init,
        scratch_bytes=program.scratch_bytes,
        sections=emission.sections,
        header=emission.header,
        facts=emission.facts,
    )


def random_artifacts(count: int, target: str) -> Iterator[tuple[str, Artifact]]:
    """Random graphs that the target takes, with their names."""
    seed = made = 0
    while made < count:
        seed += 1
        size = 3 + seed % 7
        try:
            artifact = artifact_of(steps_or_call(seed, size), target)
        except CapabilityError:
            continue
        made += 1
        yield f"random_graph({seed}, {size})", artifact


def steps_or_call(seed: int, size: int) -> StepGraph:
    """A random graph as a stream, or as a whole call where it is none."""
    graph = random_graph(seed, size)
    try:
        return to_steps(graph)
    except ModelError:
        return whole_call(graph)


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Code of that instruction set is loaded inside."""
    before = os.environ.get(ISA_VARIABLE)
    os.environ[ISA_VARIABLE] = isa
    try:
        yield
    finally:
        if before is None:
            del os.environ[ISA_VARIABLE]
        else:
            os.environ[ISA_VARIABLE] = before


def on_every_engine(graph: StepGraph) -> Iterator[tuple[str, Artifact]]:
    """The graph on the reference engine, all levels of this processor, and an emulated ARM."""
    yield "reference", artifact_of(graph, "reference")
    for level in LEVELS:
        with forced(level):
            artifact = artifact_of(graph, "host")
            _ = artifact.kernel
        yield level, artifact
    try:
        yield "emulated", emulate(artifact_of(graph, "rpi4"))
    except TargetUnavailableError:
        return
