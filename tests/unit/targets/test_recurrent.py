"""LSTM, GRU and RNN in native code compute what the float64 evaluation computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.activations import RELU, SIGMOID, TANH, Activation, Fn
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import Direction
from tests.unit.targets.native import natives
from tests.unit.targets.packing import ProgramBuilder

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

FORWARD, REVERSE, BOTH = Direction.FORWARD, Direction.REVERSE, Direction.BIDIRECTIONAL
DEFAULTS = {LSTM: (SIGMOID, TANH, TANH), GRU: (SIGMOID, TANH), RNN: (TANH,)}
ELEVEN = (
    SIGMOID,
    TANH,
    RELU,
    Activation(Fn.AFFINE, 0.7, 0.1),
    Activation(Fn.LEAKY_RELU, 0.1),
    Activation(Fn.THRESHOLDED_RELU, 0.2),
    Activation(Fn.SCALED_TANH, 0.9, 0.8),
    Activation(Fn.HARD_SIGMOID, 0.25, 0.45),
    Activation(Fn.ELU, 0.8),
    Activation(Fn.SOFTSIGN),
    Activation(Fn.SOFTPLUS),
)


@dataclass(frozen=True)
class Case:
    """A layer and which of its optional parts are there."""

    cell: type
    features: int = 5
    hidden: int = 19
    direction: Direction = FORWARD
    steps: int = 3
    batch: int = 1
    activations: tuple[Activation, ...] | None = None
    clip: float | None = None
    linear_before_reset: bool = False
    input_forget: bool = False
    peepholes: bool = False
    initial: bool = True
    in_place: bool = False
    lengths: tuple[int, ...] | None = None
    y: bool = True

    def op(self):
        """The operator."""
        count = self.direction.count
        activations = self.activations or DEFAULTS[self.cell] * count
        extra = {}
        if self.cell is GRU:
            extra["linear_before_reset"] = self.linear_before_reset
        if self.cell is LSTM:
            extra["input_forget"] = self.input_forget
        return self.cell(self.hidden, self.direction, activations, self.clip, **extra)


CASES = [
    *(Case(cell, d_, h_, direction) for cell in (LSTM, GRU, RNN) for direction in Direction
      for d_, h_ in ((5, 19), (1, 1), (33, 64))),
    *(Case(GRU, direction=direction, hidden=h, linear_before_reset=True)
      for direction, h in ((FORWARD, 16), (BOTH, 7))),
    *(Case(cell, batch=3, direction=BOTH, lengths=(2, 4, 0), steps=4)
      for cell in (LSTM, GRU, RNN)),
    *(Case(cell, batch=2, initial=False, direction=REVERSE) for cell in (LSTM, GRU, RNN)),
    *(Case(cell, steps=1, in_place=True, hidden=h) for cell in (LSTM, GRU, RNN) for h in (17, 48)),
    Case(GRU, steps=1, in_place=True, hidden=40, linear_before_reset=True),
    *(Case(cell, y=False) for cell in (LSTM, GRU, RNN)),
    *(Case(cell, clip=0.3) for cell in (LSTM, GRU, RNN)),
    Case(GRU, clip=0.3, linear_before_reset=True),
    Case(LSTM, clip=0.2, peepholes=True, direction=BOTH),
    Case(LSTM, input_forget=True),
    Case(LSTM, input_forget=True, peepholes=True, hidden=21),
    Case(LSTM, hidden=300, features=70, steps=2),
    # All units at once with AVX-512; ends of a block that narrower vectors leave out elsewhere.
    *(Case(cell, h_, h, direction=BOTH, batch=2, steps=4, in_place=False)
      for cell, h_, h in ((LSTM, 6, 24), (GRU, 1, 8), (GRU, 20, 32), (RNN, 6, 40), (RNN, 2, 29))),
    *(Case(GRU, 6, h, steps=4, linear_before_reset=True) for h in (20, 32)),
    *(Case(LSTM, 6, h, steps=1, in_place=True, peepholes=True) for h in (4, 24, 31)),
    Case(LSTM, 3, 32, y=False, steps=5, clip=0.4),
    Case(LSTM, direction=BOTH, activations=(SIGMOID, TANH, RELU, TANH, SIGMOID, TANH)),
    *(Case(RNN, activations=(a,)) for a in ELEVEN),
    *(Case(LSTM, activations=(a, b, c)) for a, b, c in zip(ELEVEN, ELEVEN[3:] + ELEVEN[:3],
                                                          ELEVEN[7:] + ELEVEN[:7], strict=True)),
    *(Case(GRU, activations=(a, b)) for a, b in zip(ELEVEN, ELEVEN[5:] + ELEVEN[:5], strict=True)),
]  # fmt: skip


def weights_of(op, features, rng):
    count, rows = op.direction.count, op.gates * op.hidden
    scale = 0.5 / np.sqrt(op.hidden)
    shapes = ((count, rows, features), (count, rows, op.hidden), (count, 2 * rows))
    return [(rng.normal(size=s) * scale).astype(np.float32) for s in shapes]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_equals_float64(case):
    """Every output of every instruction set, inputs and outputs at unaligned addresses."""
    rng = np.random.default_rng(7)
    op = case.op()
    weights = weights_of(op, case.features, rng)
    count, hidden, batch = op.direction.count, op.hidden, case.batch
    peepholes = None
    if case.peepholes:
        peepholes = rng.normal(size=(count, 3 * hidden)).astype(np.float32) * 0.5
    x = rng.normal(size=(case.steps, batch, case.features)).astype(np.float32)
    shape = (count, batch, hidden)
    start = [rng.normal(size=shape).astype(np.float32) for _ in range(op.state_count)]
    lengths = None if case.lengths is None else np.array(case.lengths, np.int32)

    builder = ProgramBuilder("layer")
    given = [x]
    buffers = {"x": builder.input(DType.F32, x.shape)}
    if lengths is not None:
        buffers["lengths"] = builder.input(DType.I32, lengths.shape)
        given.append(lengths)
    names = ("h", "c")[: op.state_count]
    if case.y:
        buffers["y"] = builder.output(DType.F32, (case.steps, *shape[:1], *shape[1:]))
    for name, data in zip(names, start, strict=True):
        if case.in_place:
            buffers[f"{name}0"] = buffers[f"y_{name}"] = builder.memory(shape, data)
        else:
            if case.initial:
                buffers[f"{name}0"] = builder.input(DType.F32, shape)
                given.append(data)
            buffers[f"y_{name}"] = builder.output(DType.F32, shape)
    builder.recurrent(op, case.features, case.steps, batch, weights, peepholes, **buffers)
    program = builder.build("call")

    doubles = [None if a is None else a.astype(np.float64) for a in (x, *weights)]
    initial = [a.astype(np.float64) if case.initial or case.in_place else None for a in start]
    initial += [None] * (2 - len(initial))
    p = None if peepholes is None else peepholes.astype(np.float64)
    expected = apply(op.kind, op_fields(op), [*doubles, lengths, *initial, p])
    wanted = ([expected[0]] if case.y else []) + ([] if case.in_place else expected[1:])
    for isa, native in natives(program).items():
        actual = native.step(*given)
        for a, b in zip(actual, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6, err_msg=isa)
        if case.in_place:
            for buffer, data in zip(("h", "c"), expected[1:], strict=False):
                offset = buffers[f"y_{buffer}"].offset_bytes
                size = data.size * 4
                state = native.state[offset : offset + size].view(np.float32).reshape(shape)
                np.testing.assert_allclose(state, data, rtol=2e-6, atol=2e-6, err_msg=isa)
                assert not native.state[offset + size : offset + size + -size % 64].any(), isa


def test_stream_equals_sequence():
    """Steps one by one, and runs of any length, give what one call on the sequence gives."""
    rng = np.random.default_rng(1)
    op = Case(LSTM, hidden=37).op()
    weights = weights_of(op, 5, rng)
    x = rng.normal(size=(50, 5)).astype(np.float32)
    builder = ProgramBuilder("stream")
    h, c = (builder.memory((1, 1, 37)) for _ in range(2))
    frame, y = builder.input(DType.F32, (5,)), builder.output(DType.F32, (37,))
    builder.recurrent(op, 5, 1, 1, weights, x=frame, h0=h, c0=c, y=y, y_h=h, y_c=c)
    sequence = ProgramBuilder("whole")
    long = replace(op)
    buffers = {
        "x": sequence.input(DType.F32, (50, 1, 5)),
        "y": sequence.output(DType.F32, (50, 1, 1, 37)),
        "y_h": sequence.output(DType.F32, (1, 1, 37)),
        "y_c": sequence.output(DType.F32, (1, 1, 37)),
    }
    sequence.recurrent(long, 5, 50, 1, weights, **buffers)
    wholes = natives(sequence.build("call"))
    for isa, native in natives(builder.build()).items():
        whole = wholes[isa].step(x)[0].reshape(50, 37)
        single = np.stack([native.step(frame)[0] for frame in x])
        native.reset()
        runs = [native.call(part.tobytes(), len(part)) for part in np.split(x, [1, 1, 8, 30])]
        chunked = np.frombuffer(b"".join(block for _, block in runs), np.float32)
        np.testing.assert_array_equal(single, chunked.reshape(50, 37))
        np.testing.assert_allclose(single, whole, rtol=0, atol=1e-6)
