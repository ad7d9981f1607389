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

Code for streams that read the same frames has another entry point in its place:

```
int64_t NAME_shared(..., strides, sums)
int64_t NAME_shared_sizes[8]    the same, and bytes of the sums of one frame
```
`in` holds strides[6] frames. All of them are looked at: where one is refused, all streams are. What
all streams share is computed once, into `sums`; stream i begins with those of the frame that is
place * strides[5] elements of them behind the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edgelstm_compiler.ir.columns import MOST_COLUMNS, lines
from edgelstm_compiler.ir.program import Program
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.streams import ColumnBlock, SharedFrames
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.entry import BITS, CheckedRun, bits_of, checked_runs
from edgelstm_targets.tvm_cpu.stubs import INNER, INT64, POINTER, Stub, Table
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

VERSION = 1
"""Of the entry point; a runtime that does not know it steps the streams one by one."""

_OFFSETS_AT, _CHOSEN_AT = 0, 8 * MOST_COLUMNS
_STARTS_AT = lines(_CHOSEN_AT + 4 * MOST_COLUMNS)


def batch_scratch_bytes(program: Program, work_bytes: int, shared: SharedFrames | None) -> int:
    """Bytes of scratch: state offsets, who is stepped, blocks of the columns, workspaces."""
    return _work_at(program, shared) + lines(work_bytes)


def batch_table(program: Program, work_bytes: int, shared: SharedFrames | None) -> Table:
    """What callers have to know."""
    numbers = (
        VERSION,
        batch_scratch_bytes(program, work_bytes, shared),
        MOST_COLUMNS,
        len(program.weights),
        len(program.state_init),
        program.signature.input_bytes,
        program.signature.output_bytes,
    )
    more = () if shared is None else (shared.frame_bytes,)
    return Table(f"{_entry(program.signature.name, shared)}_sizes", (*numbers, *more))


def batch_stub(name: str, shared: SharedFrames | None) -> Stub:
    """The C function."""
    sums = () if shared is None else (POINTER,)
    own = (POINTER,) * 7 + (INT64, INT64, POINTER)
    return Stub(_entry(name, shared), (*own, *sums), INT64)


def batch_functions(program: Program, shared: SharedFrames | None) -> list[Function]:
    """The entry point, and one group of streams; `NAME_batch_frame` is there already."""
    name = program.signature.name
    pointers = ("weights", "states", "scratch", "in", "out")
    blocks = [Parameter(key, "uint8") for key in pointers]
    lists = [Parameter("places", "int32"), Parameter("codes", "int32")]
    numbers = [Parameter(key, "int64", is_pointer=False) for key in ("n_places", "n_frames")]
    sums = [] if shared is None else [Parameter("sums", "float32")]
    last = [Parameter("strides", "int64"), *sums, Parameter("result", "int64")]

    def whole(*arguments: Buffer) -> None:
        *memory, places, codes, n_places, n_frames = arguments[:9]
        strides, *sums, result = arguments[9:]
        total = tir.name(tirx.Cast("int32", n_places))
        groups = tir.name(tirx.truncdiv(total + (MOST_COLUMNS - 1), tir.integer(MOST_COLUMNS)))
        # Groups of about the same size: a small one would read all weights for few streams.
        size = tir.name(tirx.truncdiv(total + groups - 1, tirx.max(groups, tir.integer(1))))
        tir.store(result, 0, _long(0))
        if sums:
            _share(program, memory, codes, total, strides, sums[0], result)
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
                *(tir.address(each, 0) for each in sums),
                tir.address(result, 0),
            )

    def group(*arguments: Buffer) -> None:
        *memory, places, codes, n_places, n_frames = arguments[:9]
        strides, *sums, result = arguments[9:]
        start = (program, memory, places, codes, n_places, n_frames, strides, result)
        _Group(*start, shared, *sums).write()

    parameters = [*blocks, *lists, *numbers, *last]
    return [
        *(() if shared is None else shared.functions),
        tir.define(f"{name}_batch_group", parameters, group),
        tir.define(f"{_entry(name, shared)}{INNER}", parameters, whole),
    ]


def _entry(name: str, shared: SharedFrames | None) -> str:
    return f"{name}_batch" if shared is None else f"{name}_shared"


def _share(
    program: Program,
    memory: Sequence[Buffer],
    codes: Buffer,
    total: Expr,
    strides: Buffer,
    sums: Buffer,
    result: Buffer,
) -> None:
    """Look at the frames that all streams read, and compute what is the same for all of them.

    Leaves the function where a frame is refused.
    """
    weights, _, _, inputs, _ = memory
    signature = program.signature
    code, found = tir.local(1, "int32"), tir.local(1, "int32")
    tir.store(code, 0, tir.integer(0))
    frames = tir.name(strides[6])
    for index, spec in enumerate(signature.inputs):
        for run in checked_runs(spec):
            with tir.loop(frames) as frame:
                at = frame * signature.input_bytes + (spec.offset_bytes + run.offset_bytes)
                _look(signature.name, inputs, at, run, found)
                with tir.when(tirx.all(found[0] != 0, code[0] == 0)):
                    tir.store(code, 0, tir.integer(1 + index))
    with tir.loop(total) as i:
        tir.store(codes, i, code[0])
    with tir.when(code[0] != 0):
        tir.store(result, 0, tirx.Cast("int64", total))
        tir.leave()
    tir.call(
        f"{signature.name}_project",
        tir.address(weights, 0),
        tir.address(inputs, 0),
        tir.address(sums, 0),
        tirx.Cast("int32", frames),
    )


def _look(name: str, inputs: Buffer, at: Expr, run: CheckedRun, found: Buffer) -> None:
    """Whether elements of a frame are refused."""
    tir.call(
        f"{name}_{run.function}",
        tir.address(inputs, at),
        _long(run.elements),
        *run.bounds,
        tir.address(found, 0),
    )


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
        shared: SharedFrames | None = None,
        sums: Buffer | None = None,
    ) -> None:
        self.program, self.shared, self.sums = program, shared, sums
        self.weights, self.states, self.scratch, self.inputs, self.outputs = memory
        self.places, self.codes = places, codes
        self.n_places, self.n_frames = n_places, n_frames
        self.strides, self.result = strides, result
        self.block = ColumnBlock(program)
        self.offsets = tir.flat(self.scratch.data, "int64")
        self.chosen = tir.behind(tir.flat(self.scratch.data, "int32"), _CHOSEN_AT // 4)
        self.starts = None
        if shared is not None:
            self.starts = tir.behind(tir.flat(self.scratch.data, "int64"), _STARTS_AT // 8)
        self.live = tir.local(1, "int32")

    def write(self) -> None:
        """Choose the streams whose frames are taken; then frame by frame."""
        tir.store(self.live, 0, tir.integer(0))
        with tir.loop(tirx.Cast("int32", self.n_places)) as i:
            self._choose(i)
        with tir.loop(self.n_frames) as frame:
            if self.shared is None or self.shared.reads_frames:
                with tir.loop(self.live[0]) as column:
                    self._move(column, frame, is_input=True)
            self._step(frame)
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
        for index, spec in enumerate(signature.inputs if self.shared is None else ()):
            for run in checked_runs(spec):
                with tir.loop(self.n_frames) as frame:
                    start = spec.offset_bytes + run.offset_bytes
                    at = first + frame * self.strides[2] + start
                    _look(signature.name, self.inputs, at, run, found)
                    with tir.when(tirx.all(found[0] != 0, code[0] == 0)):
                        tir.store(code, 0, tir.integer(1 + index))
        tir.store(self.codes, i, code[0])
        with tir.when(code[0] != 0):
            tir.store(self.result, 0, self.result[0] + _long(1))
        with tir.when(code[0] == 0):
            live = tir.name(self.live[0])
            tir.store(self.chosen, live, i)
            tir.store(self.offsets, live, place * self.strides[0])
            if self.starts is not None:
                tir.store(self.starts, live, place * self.strides[5])
            tir.store(self.live, 0, live + 1)

    def _move(self, column: Expr, frame: Expr, *, is_input: bool) -> None:
        """Bring a frame into a stream's block, or what came of it out of it."""
        signature = self.program.signature
        place = tirx.Cast("int64", self.places[self.chosen[column]])
        at = 1 if is_input else 3
        outside = tir.name(place * self.strides[at] + frame * self.strides[at + 1])
        own = self.block.input_at if is_input else self.block.output_at
        at_columns = _columns_at(self.shared)
        inside = tir.name(column * self.block.stride_bytes + (at_columns + own))
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

    def _step(self, frame: Expr) -> None:
        name = self.program.signature.name
        if self.program.shadow_offset is not None:
            with tir.loop(self.live[0]) as column:
                tir.call(f"{name}_keep", self._state(column), self._shadow(column))
        tir.call(
            f"{name}_batch_frame",
            tir.address(self.weights, 0),
            tir.address(self.states, 0),
            tir.address(self.scratch, _columns_at(self.shared)),
            tir.address(self.scratch, _work_at(self.program, self.shared)),
            tir.address(self.scratch, _OFFSETS_AT),
            *self._sums_of(frame),
            self.live[0],
        )

    def _sums_of(self, frame: Expr) -> list[Expr]:
        """The sums that the streams begin a frame with, and where."""
        if self.shared is None or self.sums is None:
            return []
        at = tir.address(self.sums, frame * (self.shared.frame_bytes // 4))
        return [at, tir.address(self.scratch, _STARTS_AT)]

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
                if self.starts is not None:
                    tir.store(self.starts, left[0], self.starts[column])
                tir.store(left, 0, left[0] + 1)
        tir.store(self.live, 0, left[0])

    def _state(self, column: Expr) -> Expr:
        return tir.address(self.states, self.offsets[column])

    def _shadow(self, column: Expr) -> Expr:
        assert self.program.shadow_offset is not None
        at = _columns_at(self.shared) + self.program.shadow_offset
        return tir.address(self.scratch, column * self.block.stride_bytes + at)


def _columns_at(shared: SharedFrames | None) -> int:
    """Byte of scratch at which the blocks of the columns begin."""
    return _STARTS_AT if shared is None else _STARTS_AT + 8 * MOST_COLUMNS


def _work_at(program: Program, shared: SharedFrames | None) -> int:
    """Byte of scratch at which the workspaces begin."""
    return _columns_at(shared) + MOST_COLUMNS * ColumnBlock(program).stride_bytes


def _long(value: int) -> Expr:
    return tirx.const(value, "int64")
