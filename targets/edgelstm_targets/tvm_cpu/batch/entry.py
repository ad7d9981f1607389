"""`NAME_batch`: many frames of many streams in one call, each stream refused on its own.

```
int64_t NAME_batch(weights, states, scratch, in, out, places, codes, n_places, n_frames, strides)
int64_t NAME_batch_sizes[7]     version, bytes of scratch, most streams at once, bytes of weights,
                                of one state, of one input, of one output
```
Stream i of `places` (int32) has its state block at states + place * strides[0], its frames at
in + place * strides[1] + frame * strides[2], its outputs at out + place * strides[3] +
frame * strides[4] (all in bytes). What becomes of it stands in codes[i] (int32): what `NAME_run`
returns. The result is the number of streams with a code other than 0.
"""

from __future__ import annotations

from tvm import tirx

from edgelstm_compiler.ir.columns import MOST_COLUMNS, lines
from edgelstm_compiler.ir.program import Program
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.streams import ColumnBlock
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.entry import BITS, bits_of, checked_runs
from edgelstm_targets.tvm_cpu.stubs import INNER, INT64, POINTER, Stub, Table
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

VERSION = 1
"""Of the entry point; a runtime that does not know it steps the streams one by one."""

_OFFSETS_AT, _CHOSEN_AT = 0, 8 * MOST_COLUMNS


def batch_scratch_bytes(program: Program, work_bytes: int) -> int:
    """Bytes of scratch: state offsets, who is stepped, blocks of the columns, workspaces."""
    return _work_at(program) + lines(work_bytes)


def batch_table(program: Program, work_bytes: int) -> Table:
    """What callers have to know."""
    numbers = (
        VERSION,
        batch_scratch_bytes(program, work_bytes),
        MOST_COLUMNS,
        len(program.weights),
        len(program.state_init),
        program.signature.input_bytes,
        program.signature.output_bytes,
    )
    return Table(f"{program.signature.name}_batch_sizes", numbers)


def batch_stub(name: str) -> Stub:
    """The C function."""
    return Stub(f"{name}_batch", (POINTER,) * 7 + (INT64, INT64, POINTER), INT64)


def batch_functions(program: Program) -> list[Function]:
    """The entry point, and one group of streams; `NAME_batch_frame` is there already."""
    name = program.signature.name
    pointers = ("weights", "states", "scratch", "in", "out")
    blocks = [Parameter(key, "uint8") for key in pointers]
    lists = [Parameter("places", "int32"), Parameter("codes", "int32")]
    numbers = [Parameter(key, "int64", is_pointer=False) for key in ("n_places", "n_frames")]
    strides, result = Parameter("strides", "int64"), Parameter("result", "int64")

    def whole(*arguments: Buffer) -> None:
        *memory, places, codes, n_places, n_frames, strides, result = arguments
        total = tir.name(tirx.Cast("int32", n_places))
        groups = tir.name(tirx.truncdiv(total + (MOST_COLUMNS - 1), tir.integer(MOST_COLUMNS)))
        # Groups of about the same size: a small one would read all weights for few streams.
        size = tir.name(tirx.truncdiv(total + groups - 1, tirx.max(groups, tir.integer(1))))
        tir.store(result, 0, _long(0))
        with tir.loop(groups) as group:
            first = tir.name(group * size)
            count = tir.name(tirx.max(tir.integer(0), tirx.min(size, total - first)))
            tir.call(
                f"{name}_batch_group",
                *(tir.address(block, 0) for block in memory),
                tir.address(places, first),
                tir.address(codes, first),
                tirx.Cast("int64", count),
                n_frames,
                tir.address(strides, 0),
                tir.address(result, 0),
            )

    def group(*arguments: Buffer) -> None:
        *memory, places, codes, n_places, n_frames, strides, result = arguments
        _Group(program, memory, places, codes, n_places, n_frames, strides, result).write()

    parameters = [*blocks, *lists, *numbers, strides, result]
    return [
        tir.define(f"{name}_batch_group", parameters, group),
        tir.define(f"{name}_batch{INNER}", parameters, whole),
    ]


class _Group:
    """Writes the frames of one group of streams."""

    def __init__(
        self,
        program: Program,
        memory: list[Buffer],
        places: Buffer,
        codes: Buffer,
        n_places: Expr,
        n_frames: Expr,
        strides: Buffer,
        result: Buffer,
    ) -> None:
        self.program = program
        self.weights, self.states, self.scratch, self.inputs, self.outputs = memory
        self.places, self.codes = places, codes
        self.n_places, self.n_frames = n_places, n_frames
        self.strides, self.result = strides, result
        self.block = ColumnBlock(program)
        self.offsets = tir.flat(self.scratch.data, "int64")
        self.chosen = tir.behind(tir.flat(self.scratch.data, "int32"), _CHOSEN_AT // 4)
        self.live = tir.local(1, "int32")

    def write(self) -> None:
        """Choose the streams whose frames are taken; then frame by frame."""
        tir.store(self.live, 0, tir.integer(0))
        with tir.loop(tirx.Cast("int32", self.n_places)) as i:
            self._choose(i)
        with tir.loop(self.n_frames) as frame:
            with tir.loop(self.live[0]) as column:
                self._move(column, frame, is_input=True)
            self._step()
            if self.program.shadow_offset is None:
                with tir.loop(self.live[0]) as column:
                    self._move(column, frame, is_input=False)
            else:
                self._keep_or_undo(frame)

    def _choose(self, i: Expr) -> None:
        """Look at all frames of a stream; remember it where they are taken."""
        signature = self.program.signature
        place = tir.name(tirx.Cast("int64", self.places[i]))
        first = tir.name(place * self.strides[1])
        code, found = tir.local(1, "int32"), tir.local(1, "int32")
        tir.store(code, 0, tir.integer(0))
        for index, spec in enumerate(signature.inputs):
            for run in checked_runs(spec):
                with tir.loop(self.n_frames) as frame:
                    start = spec.offset_bytes + run.offset_bytes
                    at = first + frame * self.strides[2] + start
                    tir.call(
                        f"{signature.name}_{run.function}",
                        tir.address(self.inputs, at),
                        _long(run.elements),
                        *run.bounds,
                        tir.address(found, 0),
                    )
                    with tir.when(tirx.all(found[0] != 0, code[0] == 0)):
                        tir.store(code, 0, tir.integer(1 + index))
        tir.store(self.codes, i, code[0])
        with tir.when(code[0] != 0):
            tir.store(self.result, 0, self.result[0] + _long(1))
        with tir.when(code[0] == 0):
            live = tir.name(self.live[0])
            tir.store(self.chosen, live, i)
            tir.store(self.offsets, live, place * self.strides[0])
            tir.store(self.live, 0, live + 1)

    def _move(self, column: Expr, frame: Expr, *, is_input: bool) -> None:
        """Bring a frame into a stream's block, or what came of it out of it."""
        signature = self.program.signature
        place = tirx.Cast("int64", self.places[self.chosen[column]])
        at = 1 if is_input else 3
        outside = tir.name(place * self.strides[at] + frame * self.strides[at + 1])
        own = self.block.input_at if is_input else self.block.output_at
        inside = tir.name(column * self.block.stride_bytes + (_columns_at() + own))
        size = signature.input_bytes if is_input else signature.output_bytes
        specs = (*signature.inputs, *signature.outputs)
        width = 4 if all(spec.dtype.itemsize >= 4 for spec in specs) and size % 4 == 0 else 1
        kind = "int32" if width == 4 else "uint8"
        caller = self.inputs if is_input else self.outputs
        far = tir.at(caller, outside, kind)
        near = tir.at(self.scratch, inside, kind)
        source, target = (far, near) if is_input else (near, far)
        zero = tir.integer(0)
        copy_elements(source, zero, target, zero, size // width)

    def _step(self) -> None:
        name = self.program.signature.name
        if self.program.shadow_offset is not None:
            with tir.loop(self.live[0]) as column:
                tir.call(f"{name}_keep", self._state(column), self._shadow(column))
        tir.call(
            f"{name}_batch_frame",
            tir.address(self.weights, 0),
            tir.address(self.states, 0),
            tir.address(self.scratch, _columns_at()),
            tir.address(self.scratch, _work_at(self.program)),
            tir.address(self.scratch, _OFFSETS_AT),
            self.live[0],
        )

    def _keep_or_undo(self, frame: Expr) -> None:
        """A stream whose new state is not kept gets its old one back, and goes no further."""
        program = self.program
        signature = program.signature
        left, found, bad = tir.local(1, "int32"), tir.local(1, "int32"), tir.local(1, "int32")
        tir.store(left, 0, tir.integer(0))
        with tir.loop(self.live[0]) as column:
            tir.store(bad, 0, tir.integer(0))
            for spec in signature.states:
                if not spec.dtype.is_float:
                    continue
                tir.call(
                    f"{signature.name}_exceeds_{spec.dtype.value}",
                    tir.address(self.states, self.offsets[column] + spec.offset_bytes),
                    _long(spec.nbytes // spec.dtype.itemsize),
                    tirx.const(bits_of(signature.state_limit, spec.dtype), BITS[spec.dtype]),
                    tir.address(found, 0),
                )
                tir.store(bad, 0, bad[0] | found[0])
            with tir.when(bad[0] != 0):
                tir.call(f"{signature.name}_keep", self._shadow(column), self._state(column))
                code = tir.integer(-1) - tirx.Cast("int32", frame)
                tir.store(self.codes, self.chosen[column], code)
                tir.store(self.result, 0, self.result[0] + _long(1))
            with tir.when(bad[0] == 0):
                self._move(column, frame, is_input=False)
                tir.store(self.chosen, left[0], self.chosen[column])
                tir.store(self.offsets, left[0], self.offsets[column])
                tir.store(left, 0, left[0] + 1)
        tir.store(self.live, 0, left[0])

    def _state(self, column: Expr) -> Expr:
        return tir.address(self.states, self.offsets[column])

    def _shadow(self, column: Expr) -> Expr:
        assert self.program.shadow_offset is not None
        at = _columns_at() + self.program.shadow_offset
        return tir.address(self.scratch, column * self.block.stride_bytes + at)


def _columns_at() -> int:
    """Byte of scratch at which the blocks of the columns begin."""
    return lines(_CHOSEN_AT + 4 * MOST_COLUMNS)


def _work_at(program: Program) -> int:
    """Byte of scratch at which the workspaces begin."""
    return _columns_at() + MOST_COLUMNS * ColumnBlock(program).stride_bytes


def _long(value: int) -> Expr:
    return tirx.const(value, "int64")
