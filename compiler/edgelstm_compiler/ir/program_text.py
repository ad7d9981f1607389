"""Text form of a Program: blocks and calls, one a line; what a target was given, to read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.program import Buffer, Program
from edgelstm_compiler.ir.types import Op


def print_program(program: Program) -> str:
    """The program as text; weights by size and digest."""
    signature = program.signature
    digest = hashlib.sha256(program.weights).hexdigest()[:16]
    lines = [
        f"program {signature.name} mode={signature.mode}",
        f"weights {len(program.weights)} bytes @{digest}",
        f"state {len(program.state_init)} bytes, scratch {program.scratch_bytes} bytes",
        f"input {signature.input_bytes} bytes, output {signature.output_bytes} bytes",
    ]
    for kind, specs in (("in", signature.inputs), ("out", signature.outputs)):
        lines += [
            f"{kind} {spec.name!r}: {spec.dtype.value}{list(spec.shape)} at {spec.offset_bytes}"
            for spec in specs
        ]
    lines += [
        f"state {spec.name!r}: {spec.dtype.value}{list(spec.shape)} at {spec.offset_bytes}"
        for spec in signature.states
    ]
    for call in program.calls:
        outputs = ", ".join(map(_buffer, call.outputs))
        inputs = ", ".join(map(_buffer, call.inputs))
        workspace = f" workspace {_buffer(call.workspace)}" if call.workspace else ""
        fields = ", ".join(
            f"{field.name}={_plain(getattr(call.kernel, field.name))}"
            for field in dataclasses.fields(call.kernel)  # type: ignore[arg-type]
            if field.name != "phases"
        )
        lines.append(
            f"{outputs} = {call.kernel.kind}({fields}) ({inputs}){workspace} # {call.name}"
        )
    return "\n".join(lines) + "\n"


def _buffer(buffer: Buffer | None) -> str:
    if buffer is None:
        return "-"
    return f"{buffer.space.value}+{buffer.offset_bytes}: {buffer.type}"


def _plain(value: Any) -> str:
    if isinstance(value, Op):
        return f"{value.kind} {json.dumps(op_fields(value), sort_keys=True)}"
    return str(value)
