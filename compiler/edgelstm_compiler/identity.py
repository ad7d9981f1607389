"""Which function of its inputs and states an artifact computes, as one number, and who computed it.

Two artifacts share an identity if and only if a state of one means the same in the other: equal
operators, constants before any target packs them, inputs, outputs and states. Symbols, units and
rates are no part of it, nor are instruction sets and engines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.container import canonical_json
from edgelstm.signature import Signature
from edgelstm.version import VERSION
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.reference import emit_program

_DESCRIPTIVE = frozenset({"name", "rate_hz", "unit", "description", "range"})
"""Parts of a signature that say what numbers mean to people, not what is computed."""

_TOOLS = {
    "native": ("apache-tvm", "ziglang"),
    "cuda": ("numba", "numba-cuda", "llvmlite"),
    "reference": (),
}
"""Packages whose versions decide what an engine's code is, beside those that read the model."""


def reference_artifact(graph: StepGraph, rate_hz: float | None = None) -> Artifact:
    """The step graph for the reference engine: nothing packed, nothing fused, run by NumPy."""
    program = lower(graph, None, rate_hz)
    emission = emit_program(program)
    return Artifact.create(
        signature=program.signature,
        engine=emission.engine,
        target="reference",
        weights=program.weights,
        state_init=program.state_init,
        scratch_bytes=program.scratch_bytes,
        sections=emission.sections,
    )


def identity_of(reference: Artifact) -> str:
    """SHA-256 over constants, recipe and signature of what `reference_artifact` made."""
    sections = reference.container.sections
    program = json.loads(bytes(sections["program"]))
    for node in program["nodes"]:
        node.pop("name", None)
    content = {
        "program": program,
        "signature": _computed(reference.signature),
        "weights": hashlib.sha256(sections["weights"]).hexdigest(),
        "state_init": hashlib.sha256(sections["state_init"]).hexdigest(),
    }
    return hashlib.sha256(b"edgelstm identity 1\n" + canonical_json(content)).hexdigest()


def provenance(engine: str) -> dict[str, Any]:
    """Versions of everything that decides what a compilation gives."""
    packages = {}
    for name in ("numpy", "onnx", *_TOOLS.get(engine, ())):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"edgelstm": VERSION, "packages": packages}


def _computed(signature: Signature) -> dict[str, Any]:
    """The signature without its descriptive parts; tensors keep their names."""
    fields = signature.without_limits().to_json()
    for kind in ("inputs", "outputs", "states"):
        fields[kind] = [_without(spec, _DESCRIPTIVE - {"name"}) for spec in fields[kind]]
    return _without(fields, _DESCRIPTIVE)


def _without(data: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}
