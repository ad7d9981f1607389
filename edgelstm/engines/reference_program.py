"""Section `program` of a reference artifact, read and checked before anything of it is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import KINDS, SCAN
from edgelstm.errors import ArtifactFormatError, ArtifactVersionError
from edgelstm.fields import Fields
from edgelstm.numerics.cells import Cell
from edgelstm.numerics.documents import read_cell
from edgelstm.numerics.legacy import LEGACY
from edgelstm.signature import Signature, StateSpec, TensorSpec

Array = NDArray[Any]

PROGRAM_VERSION = 3
"""Of the section; since 2 a recurrent node holds its cell (`edgelstm.numerics.documents`), since 3
there are Scans, which hold a body."""

MOST_NODES = 100_000
"""No program has more operators."""

_DEEPEST = 8

LARGEST_VALUES_BYTES = 1 << 31
"""All values of one step together are not larger."""


@dataclass(frozen=True, slots=True)
class ProgramNode:
    """One operator.

    Args:
        op: one of `numpy_ops.KINDS`.
        fields: of the operator.
        inputs: values, or None where an optional input is absent.
        outputs: values, or None where nobody reads one.
        label: what it is called in messages.
    """

    op: str
    fields: Mapping[str, Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    label: str


@dataclass(frozen=True, slots=True)
class ReferenceProgram:
    """A program whose every name is known where it is used.

    Args:
        inputs: each with its value.
        outputs: each with the value it shows.
        states: each with its values at the start and at the end of a step.
        constants: by value; views of the weights.
        nodes: in an order in which they can be computed.
    """

    inputs: tuple[tuple[TensorSpec, str], ...]
    outputs: tuple[tuple[TensorSpec, str], ...]
    states: tuple[tuple[StateSpec, str, str], ...]
    constants: Mapping[str, Array]
    nodes: tuple[ProgramNode, ...]


def read_program(
    data: bytes | memoryview, signature: Signature, weights: memoryview
) -> ReferenceProgram:
    """Read the section.

    Raises:
        ArtifactFormatError: it is no program of this signature and these weights.
        ArtifactVersionError: it is one of a newer edgelstm.
    """
    try:
        fields = Fields(json.loads(bytes(data)), "program")
        _expect_version(fields.data.get("version", 1))
        return _read(fields, signature, weights)
    except (ValueError, RecursionError, ArtifactFormatError) as exc:
        raise ArtifactFormatError(
            f"section 'program' is malformed ({exc}); compile the model again"
        ) from exc


def _read(fields: Fields, signature: Signature, weights: memoryview) -> ReferenceProgram:
    inputs = {each.text("name"): each.text("value") for each in fields.objects("inputs")}
    outputs = {each.text("name"): each.text("value") for each in fields.objects("outputs")}
    states = {
        each.text("name"): (each.text("read"), each.text("write"))
        for each in fields.objects("states")
    }
    for kind, found, specs in (
        ("inputs", inputs, signature.inputs),
        ("outputs", outputs, signature.outputs),
        ("states", states, signature.states),
    ):
        for spec in specs:
            if spec.name not in found:
                fields.refuse(kind, f"a list with an entry for {spec.name!r}")
    constants = {
        each.text("value"): _constant(each, weights) for each in fields.objects("constants")
    }
    # The signature may have fewer than the program lists: only what a step really fills in counts.
    known = {*constants, *(inputs[spec.name] for spec in signature.inputs)}
    known.update(states[spec.name][0] for spec in signature.states)
    nodes = []
    for index, each in enumerate(fields.objects("nodes")):
        if index >= MOST_NODES:
            fields.refuse("nodes", f"a list of up to {MOST_NODES} operators")
        nodes.append(_node(each, index, known))
        known.update(name for name in nodes[-1].outputs if name is not None)
    shown = [outputs[spec.name] for spec in signature.outputs]
    for name in (*shown, *(states[spec.name][1] for spec in signature.states)):
        if name not in known:
            raise ArtifactFormatError(f"nothing computes the value {name!r}")
    return ReferenceProgram(
        tuple((spec, inputs[spec.name]) for spec in signature.inputs),
        tuple((spec, outputs[spec.name]) for spec in signature.outputs),
        tuple((spec, *states[spec.name]) for spec in signature.states),
        constants,
        tuple(nodes),
    )


def _node(fields: Fields, index: int, known: set[str]) -> ProgramNode:
    op = fields.text("op")
    if op not in KINDS and op not in LEGACY:
        fields.refuse("op", f"an operator of this runtime ({', '.join(sorted(KINDS))})")
    label = f"operator {index} ({op} {fields.text('name', '')!r})"
    inputs, outputs = _names(fields, "inputs"), _names(fields, "outputs")
    for name in inputs:
        if name is not None and name not in known:
            raise ArtifactFormatError(f"{label} reads the value {name!r}, which nothing computes")
    operands = fields.object("fields").data
    _expect_moderate(operands, label)
    if op == SCAN:
        _expect_body(operands, label, depth=0)
    if op not in LEGACY and "cell" in operands:
        operands = {**operands, "cell": _cell(operands["cell"], label)}
    return ProgramNode(op, operands, inputs, outputs, label)


def _expect_body(operands: Mapping[str, Any], label: str, depth: int) -> None:
    """Refuse a body that reads what nothing computes, or operators of no runtime."""
    wrong = ArtifactFormatError(f"{label} has a malformed body")
    try:
        body, length = operands["body"], operands["length"]
        states, sequences = operands["states"], operands["sequences"]
        known, nodes, outputs = len(body["inputs"]), body["nodes"], body["outputs"]
        counts = (length, states, sequences)
        if depth > _DEEPEST or any(type(n) is not int or not 0 <= n <= MOST_NODES for n in counts):
            raise wrong
        if length < 1 or states + sequences > known or len(outputs) < states:
            raise wrong
        for node in nodes:
            ((kind, inner),) = node["op"].items()
            if kind not in KINDS:
                raise wrong
            _expect_moderate(inner, label)
            if kind == SCAN:
                _expect_body(inner, label, depth + 1)
            if not all(n is None or (type(n) is int and 0 <= n < known) for n in node["inputs"]):
                raise wrong
            known += len(inner["body"]["outputs"]) if kind == SCAN else 1
        if not all(type(n) is int and 0 <= n < known for n in outputs):
            raise wrong
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise wrong from exc


def _cell(document: Any, label: str) -> Cell:
    try:
        return read_cell(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise ArtifactFormatError(f"{label} has a malformed cell ({exc})") from exc


def _expect_version(version: object) -> None:
    if version not in range(1, PROGRAM_VERSION + 1):
        raise ArtifactVersionError(
            f"section 'program' has format {version!r}, this edgelstm reads up to "
            f"{PROGRAM_VERSION}: update edgelstm, or compile the model again"
        )


def _names(fields: Fields, name: str) -> tuple[str | None, ...]:
    values = fields.items(name)
    if not all(value is None or isinstance(value, str) for value in values):
        fields.refuse(name, "a list of values")
    return tuple(values)


def _expect_moderate(operands: Mapping[str, Any], label: str) -> None:
    """Refuse extents that no step has: NumPy would try to find the memory first."""
    for name, value in operands.items():
        extents: Sequence[Any] = value if isinstance(value, list) else [value]
        product = math.prod(abs(n) for n in extents if type(n) is int and n != 0)
        if name in ("shape", "hidden", "count", "columns") and product > LARGEST_VALUES_BYTES:
            raise ArtifactFormatError(f"{label} has {name} {str(value)[:60]}: too large")


def _constant(fields: Fields, weights: memoryview) -> Array:
    dtype = fields.one_of("dtype", DType).numpy
    shape = fields.shape("shape")
    count = math.prod(shape)
    if count == 0:
        if max(shape, default=0) > LARGEST_VALUES_BYTES:
            fields.refuse("shape", "the extents of a tensor")
        return np.zeros(shape, dtype)
    start = fields.count("offset_bytes")
    if start + count * dtype.itemsize > len(weights):
        fields.refuse("shape", f"a tensor within the {len(weights)} bytes of the weights")
    data = np.frombuffer(weights, dtype, count, start).reshape(shape)
    data.setflags(write=False)
    return data
