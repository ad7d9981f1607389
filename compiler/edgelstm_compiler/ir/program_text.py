"""Text form of a Program, printed and parsed back: what a target was given.

```
program "gru" mode=stream rate_hz=50.0 macs=36
memory input=8 output=12 scratch=128 weights=@1a5339abdca1a05e state=@0a1b2c3d4e5f6071
in "x": f32[2] at 0 model=[1, 1, 2] time=1 unit="g" stride=1 delay=0 warm_up=0 limit=1e+37
out "p": f32[1,3] at 0 model=[1, 1, 3] time=- unit="" stride=1 delay=0 warm_up=0
state "h": f32[1,1,2] at 0
phases 0 = [{"biases": [...], "sections": [...]}]
-, state+0 h: f32[1,1,2] = RecurrentKernel {"op": {"GRU": {...}}, "phases": 0, ...}
  (input+0 x: f32[1,1,2], weights+0 w: f32[60]) workspace scratch+64 w: f32[16] # "gru" "GRU 'gru'"
```
A call stands on one line. Where there are such, `checks_states` (and `state_limit=`) ends the first
line, `shadow=OFFSET` and `shares_frames` the second, `limit=` and `ranges=` that of an input.
Weights and first states stand beside the text, under the first 16 digits of their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import InvalidGraphError
from edgelstm.sessions import MODES
from edgelstm.signature import Signature, StateSpec, TensorSpec
from edgelstm_compiler.ir.cursor import MISFITS, PLAIN_NAME, Cursor
from edgelstm_compiler.ir.fields import plain, typed
from edgelstm_compiler.ir.kernel_fields import kernel_fields, make_kernel
from edgelstm_compiler.ir.kernels import Kernel, Phase
from edgelstm_compiler.ir.program import Buffer, Call, Program, ScanKernel, Space
from edgelstm_compiler.ir.types import Array, TensorType

_SCAN_NUMBERS = ("states", "sequences", "length")
_SPACES = "|".join(space.value for space in Space)


def print_program(program: Program) -> str:
    """The program as text; `program_data` gives weights and initial states."""
    signature = program.signature
    rate = "-" if signature.rate_hz is None else json.dumps(signature.rate_hz)
    lines = [
        f"program {json.dumps(signature.name)} mode={signature.mode} rate_hz={rate} "
        f"macs={program.macs}{_state_check(signature)}{_end(signature)}",
        f"memory input={signature.input_bytes} output={signature.output_bytes} "
        f"scratch={program.scratch_bytes} weights=@{_digest(program.weights)} "
        f"state=@{_digest(program.state_init)}"
        f"{'' if program.shadow_offset is None else f' shadow={program.shadow_offset}'}"
        f"{' shares_frames' if program.shares_frames else ''}",
    ]
    lines += [f"in {_tensor(spec)}" for spec in signature.inputs]
    lines += [f"out {_tensor(spec)}" for spec in signature.outputs]
    lines += [f"state {_place(spec)}" for spec in signature.states]
    phases: dict[tuple[Phase, ...], int] = {}
    calls = [_call(call, phases) for call in program.calls]
    lines += [f"phases {n} = {json.dumps(plain(item))}" for item, n in phases.items()]
    return "\n".join([*lines, *calls]) + "\n"


def _state_check(signature: Signature) -> str:
    if not signature.checks_states:
        return ""
    limit = signature.state_limit
    return " checks_states" + (f" state_limit={limit!r}" if math.isfinite(limit) else "")


def program_data(program: Program) -> dict[str, Array]:
    """The blocks of bytes that `print_program` names by digest."""
    blocks = (program.weights, program.state_init)
    found = {_digest(block): np.frombuffer(block, np.uint8) for block in blocks}
    for call in program.calls:
        if isinstance(call.kernel, ScanKernel):
            found.update(program_data(call.kernel.body))
    return found


def parse_program(text: str, data: Mapping[str, Array]) -> Program:
    """Read what `print_program` wrote.

    Args:
        text: the text form.
        data: blocks by digest, from `program_data`.

    Raises:
        InvalidGraphError: a line that is not in the form; it is quoted with its number.
    """
    parser = _Parser(data)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            parser.line(Cursor(line))
        except MISFITS as error:
            raise InvalidGraphError(f"line {number}: {line!r}: {error}") from error
    return parser.program()


def _digest(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()[:16]


def _place(spec: TensorSpec | StateSpec) -> str:
    kind = TensorType(spec.dtype, spec.shape)
    return f"{json.dumps(spec.name)}: {kind} at {spec.offset_bytes}"


def _end(signature: Signature) -> str:
    return "" if signature.most_frames is None else f" most_frames={signature.most_frames}"


def _tensor(spec: TensorSpec) -> str:
    time = "-" if spec.time_axis is None else spec.time_axis
    tail = f" tail={spec.tail}" if spec.tail else ""
    tail += f" reach={spec.reach}" if spec.reach else ""
    limit = f" limit={spec.limit!r}" if math.isfinite(spec.limit) else ""
    ranges = f" ranges={json.dumps(spec.ranges)}" if spec.ranges else ""
    return (
        f"{_place(spec)} model={list(spec.model_shape)} time={time} unit={json.dumps(spec.unit)} "
        f"stride={spec.stride} delay={spec.delay} warm_up={spec.warm_up}{tail}{limit}{ranges}"
    )


def _call(call: Call, phases: dict[tuple[Phase, ...], int]) -> str:
    outputs = ", ".join(map(_buffer, call.outputs))
    inputs = ", ".join(map(_buffer, call.inputs))
    workspace = f" workspace {_buffer(call.workspace)}" if call.workspace else ""
    kernel = call.kernel
    if isinstance(kernel, ScanKernel):
        # The text of the body's program, as a string.
        numbers = {name: getattr(kernel, name) for name in _SCAN_NUMBERS}
        fields = json.dumps({**numbers, "body": print_program(kernel.body)}, sort_keys=True)
    else:
        fields = json.dumps(kernel_fields(kernel, phases), sort_keys=True)
    note = f"{json.dumps(call.name)} {json.dumps(call.origin)}"
    return f"{outputs} = {call.kernel.kind} {fields} ({inputs}){workspace} # {note}"


def _buffer(buffer: Buffer | None) -> str:
    if buffer is None:
        return "-"
    name = buffer.name if PLAIN_NAME.fullmatch(buffer.name) else json.dumps(buffer.name)
    return f"{buffer.space.value}+{buffer.offset_bytes} {name}: {buffer.type}"


class _Parser:
    """Reads lines in order."""

    def __init__(self, data: Mapping[str, Array]) -> None:
        self.data = data
        self.head: tuple[str, str, float | None, int] | None = None
        self.memory: tuple[int, int, int, bytes, bytes] | None = None
        self.checks_states = False
        self.state_limit = math.inf
        self.shadow: int | None = None
        self.shares_frames = False
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []
        self.states: list[StateSpec] = []
        self.most_frames: int | None = None
        self.phases: dict[int, tuple[Phase, ...]] = {}
        self.buffers: dict[tuple[Any, ...], Buffer] = {}
        self.calls: list[Call] = []

    def line(self, cursor: Cursor) -> None:
        if self.head is None:
            cursor.expect("program ")
            name = cursor.json()
            cursor.expect("mode=")
            mode = cursor.take(rf"(?:{'|'.join(MODES)})\b")
            cursor.expect("rate_hz=")
            rate = None if cursor.skip("-") else float(cursor.json())
            self.head = name, mode, rate, cursor.number("macs=")
            self.checks_states = bool(cursor.skip("checks_states"))
            if cursor.skip("state_limit="):
                self.state_limit = float(cursor.json())
            self.most_frames = int(cursor.take(r"\d+")) if cursor.skip("most_frames=") else None
        elif cursor.skip("memory "):
            sizes = [cursor.number(key) for key in ("input=", "output=", "scratch=")]
            blocks = [self.block(cursor, key) for key in ("weights=@", "state=@")]
            self.memory = sizes[0], sizes[1], sizes[2], blocks[0], blocks[1]
            self.shadow = int(cursor.take(r"\d+")) if cursor.skip("shadow=") else None
            self.shares_frames = bool(cursor.skip("shares_frames"))
        elif cursor.skip("in "):
            self.inputs.append(self.tensor(cursor))
        elif cursor.skip("out "):
            self.outputs.append(self.tensor(cursor))
        elif cursor.skip("state "):
            self.states.append(StateSpec(*self.located(cursor)))
        elif cursor.skip("phases "):
            number = int(cursor.take(r"\d+"))
            cursor.expect("=")
            self.phases[number] = typed(tuple[Phase, ...], cursor.json())
        else:
            self.call(cursor)
        cursor.end()

    def block(self, cursor: Cursor, key: str) -> bytes:
        cursor.expect(key)
        digest = cursor.take(r"[0-9a-f]{16}")
        if digest not in self.data:
            raise ValueError(f"the data @{digest} is missing beside the text")
        block = self.data[digest].tobytes()
        if _digest(block) != digest:
            raise ValueError(f"the data beside the text is not that of @{digest}")
        return block

    def located(self, cursor: Cursor) -> tuple[str, DType, tuple[int, ...], int]:
        name = str(cursor.json())
        cursor.expect(":")
        kind = cursor.type()
        return name, kind.dtype, kind.shape, cursor.number("at ")

    def tensor(self, cursor: Cursor) -> TensorSpec:
        name, dtype, shape, offset = self.located(cursor)
        cursor.expect("model=")
        model_shape = typed(tuple[int, ...], cursor.json())
        cursor.expect("time=")
        time_axis = cursor.optional()
        cursor.expect("unit=")
        unit = cursor.json()
        stride, delay, warm_up = (cursor.number(key) for key in ("stride=", "delay=", "warm_up="))
        tail = int(cursor.take(r"\d+")) if cursor.skip("tail=") else 0
        reach = int(cursor.take(r"\d+")) if cursor.skip("reach=") else 0
        limit = float(cursor.json()) if cursor.skip("limit=") else math.inf
        ranges = typed(
            tuple[tuple[int, float, float], ...], cursor.json() if cursor.skip("ranges=") else []
        )
        return TensorSpec(
            name,
            dtype,
            shape,
            offset,
            model_shape,
            time_axis,
            unit,
            stride,
            delay,
            warm_up,
            limit,
            ranges,
            tail=tail,
            reach=reach,
        )

    def call(self, cursor: Cursor) -> None:
        outputs = [self.buffer(cursor)]
        while cursor.skip(","):
            outputs.append(self.buffer(cursor))
        cursor.expect("=")
        kind, fields = cursor.take(r"\w+"), cursor.json()
        kernel: Kernel
        if kind == ScanKernel.__name__:
            body = parse_program(fields["body"], self.data)
            numbers = {name: int(fields[name]) for name in _SCAN_NUMBERS}
            kernel = ScanKernel(**numbers, body=body)
        else:
            kernel = make_kernel(kind, fields, self.phases)
        cursor.expect("(")
        inputs: list[Buffer | None] = []
        while not cursor.skip(")"):
            cursor.skip(",")
            inputs.append(self.buffer(cursor))
        workspace = self.buffer(cursor) if cursor.skip("workspace ") else None
        cursor.expect("#")
        name, origin = cursor.json(), cursor.json()
        self.calls.append(Call(kernel, tuple(inputs), tuple(outputs), workspace, name, origin))

    def buffer(self, cursor: Cursor) -> Buffer | None:
        if cursor.skip("-"):
            return None
        space = Space(cursor.take(_SPACES))
        cursor.expect("+")
        offset = int(cursor.take(r"\d+"))
        name = cursor.word()
        cursor.expect(":")
        buffer = Buffer(name, cursor.type(), space, offset)
        return self.buffers.setdefault((name, buffer.type, space, offset), buffer)

    def program(self) -> Program:
        if self.head is None or self.memory is None:
            raise InvalidGraphError("the text has no line `program` and `memory`")
        name, mode, rate_hz, macs = self.head
        input_bytes, output_bytes, scratch_bytes, weights, state_init = self.memory
        signature = Signature(
            name,
            mode,
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(self.states),
            input_bytes,
            output_bytes,
            rate_hz,
            self.checks_states,
            self.state_limit,
            most_frames=self.most_frames,
        )
        calls = tuple(self.calls)
        return Program(
            signature,
            calls,
            weights,
            state_init,
            scratch_bytes,
            macs,
            self.shadow,
            self.shares_frames,
        )
