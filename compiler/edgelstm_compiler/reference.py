"""The `reference` target: the program as data, executed in NumPy on the device. The oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.engines.numpy_ops import SCAN
from edgelstm.engines.reference_program import PROGRAM_VERSION
from edgelstm.errors import CapabilityError, InternalError
from edgelstm.numerics.cells import Cell
from edgelstm.numerics.documents import cell_document
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.kernels import CopyKernel, OpKernel
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_compiler.target import Capabilities, Emission, Probe, Stage, TargetOptions


@dataclass(frozen=True, slots=True)
class ReferenceTarget:
    """Works everywhere NumPy does; exact, slow, and what the other targets are compared with."""

    name: str = "reference"

    def probe(self) -> Probe:
        """Always there."""
        return Probe(True, True, "NumPy")

    def capabilities(self) -> Capabilities:
        """Everything the graph can hold; weights stay as they are."""
        return Capabilities(unit_block=None)

    def options(self, raw: Mapping[str, str]) -> TargetOptions:
        """There are none.

        Raises:
            CapabilityError: one was given.
        """
        if raw:
            raise CapabilityError(f"the reference target has no option {sorted(raw)[0]!r}")
        return TargetOptions()

    def stages(self, options: TargetOptions) -> tuple[Stage, ...]:
        """One: the program as JSON."""
        del options
        return (Stage("program", emit_program, lambda e: e.sections["program"].decode()),)


def emit_program(program: Program) -> Emission:
    """The calls as named operators; the engine in `edgelstm.engines.reference` reads them."""
    names = _Names()
    states = {spec.offset_bytes: spec.name for spec in program.signature.states}
    outputs = {spec.offset_bytes: spec.name for spec in program.signature.outputs}
    nodes: list[dict[str, Any]] = []
    writes: dict[str, str] = {}
    shows: dict[str, str] = {}
    for call in program.calls:
        match call.kernel:
            case OpKernel():
                nodes.append(_node(call, call.kernel, names))
            case CopyKernel():
                (source,), (target,) = call.inputs, call.outputs
                assert source is not None
                assert target is not None
                if target.space is Space.STATE:
                    writes[states[target.offset_bytes]] = names.of(source)
                elif target.space is Space.OUTPUT:
                    shows[outputs[target.offset_bytes]] = names.of(source)
                else:
                    names.same(target, source)
            case _:
                raise InternalError(f"the reference target cannot run {call.kernel.kind}")
    document = {
        # Programs that older runtimes can run say so.
        "version": PROGRAM_VERSION if any(node["op"] == SCAN for node in nodes) else 2,
        "inputs": [
            {"name": spec.name, "value": names.place(Space.INPUT, spec.offset_bytes)}
            for spec in program.signature.inputs
        ],
        "states": [
            {
                "name": spec.name,
                "read": names.place(Space.STATE, spec.offset_bytes),
                "write": writes.get(spec.name, names.place(Space.STATE, spec.offset_bytes)),
            }
            for spec in program.signature.states
        ],
        "outputs": [
            {"name": spec.name, "value": shows[spec.name]} for spec in program.signature.outputs
        ],
        "constants": names.constants,
        "nodes": nodes,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return Emission("reference", {"program": text.encode()})


def _node(call: Call, kernel: OpKernel, names: _Names) -> dict[str, Any]:
    kind, fields = executed(kernel.op, call.inputs)
    if isinstance(fields.get("cell"), Cell):
        fields["cell"] = cell_document(fields["cell"])
    return {
        "op": kind,
        "fields": fields,
        "inputs": [None if buffer is None else names.of(buffer) for buffer in call.inputs],
        "outputs": [None if buffer is None else names.of(buffer) for buffer in call.outputs],
        "name": call.name,
    }


class _Names:
    """A name per buffer. Scratch may be used again after a life ends, places elsewhere not."""

    def __init__(self) -> None:
        self.constants: list[dict[str, Any]] = []
        self._places: dict[tuple[Space, int], str] = {}
        self._buffers: dict[Buffer, str] = {}

    def of(self, buffer: Buffer) -> str:
        """The name of a buffer's value."""
        if buffer in self._buffers:
            return self._buffers[buffer]
        if buffer.space is Space.SCRATCH:
            name = f"v{len(self._buffers)}"
        elif buffer.space is Space.WEIGHTS:
            name = f"w{len(self._buffers)}"
            self.constants.append(
                {
                    "value": name,
                    "dtype": buffer.type.dtype.value,
                    "shape": list(buffer.type.shape),
                    "offset_bytes": buffer.offset_bytes,
                }
            )
        else:
            name = self.place(buffer.space, buffer.offset_bytes)
        self._buffers[buffer] = name
        return name

    def place(self, space: Space, offset_bytes: int) -> str:
        """The name of an input or state."""
        return self._places.setdefault((space, offset_bytes), f"{space.value}{offset_bytes}")

    def same(self, target: Buffer, source: Buffer) -> None:
        """A copy in scratch is the same value."""
        self._buffers[target] = self.of(source)
