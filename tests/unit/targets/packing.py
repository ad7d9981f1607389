"""A tiny packer: Programs of one recurrent or dense layer, or one operator, built by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.signature import Signature, StateSpec, TensorSpec
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.kernels import (
    Bias,
    DenseKernel,
    Kernel,
    Phase,
    RecurrentKernel,
    Section,
    Source,
)
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_compiler.ir.types import TensorType

UNIT_BLOCK = 16


def phases_of(op: LSTM | GRU | RNN, features: int) -> tuple[Phase, ...]:
    """Which rows go into which sums."""

    def both(*gates: int) -> tuple[Bias, ...]:
        return tuple(Bias((g,), (g,)) for g in gates)

    hidden = op.hidden
    if isinstance(op, GRU) and op.linear_before_reset:
        biases = (*both(0, 1), Bias((2,), ()), Bias((), (2,)))
        x = Section(Source.X, features, (0, 1, 2), (0, 1, 2))
        return (Phase(biases, (x, Section(Source.H, hidden, (0, 1, 2), (0, 1, 3)))),)
    if isinstance(op, GRU):
        gates = Phase(
            both(0, 1),
            (
                Section(Source.X, features, (0, 1), (0, 1)),
                Section(Source.H, hidden, (0, 1), (0, 1)),
            ),
        )
        candidate = Phase(
            both(2),
            (
                Section(Source.X, features, (2,), (0,)),
                Section(Source.RESET_H, hidden, (2,), (0,)),
            ),
        )
        return (gates, candidate)
    gates4 = tuple(range(op.gates))
    sections = tuple(
        Section(source, extent, gates4, gates4)
        for source, extent in ((Source.X, features), (Source.H, hidden))
    )
    return (Phase(both(*gates4), sections),)


def pack(op, phases, w, r, b, p) -> np.ndarray:
    """The packed weights of a recurrent layer, as ir/kernels.py describes them."""
    hidden = op.hidden
    padded = -(-hidden // UNIT_BLOCK) * UNIT_BLOCK
    rows = op.gates * hidden
    parts = []

    def lines(matrix: np.ndarray, n: int) -> np.ndarray:  # (..., H) -> (..., 16) of block n
        wide = np.zeros((*matrix.shape[:-1], padded), np.float32)
        wide[..., :hidden] = matrix
        return wide[..., n * UNIT_BLOCK : (n + 1) * UNIT_BLOCK]

    for d in range(op.direction.count):
        gate_w = w[d].reshape(op.gates, hidden, -1)
        gate_r = r[d].reshape(op.gates, hidden, hidden)
        wb, rb = (b[d, i * rows : (i + 1) * rows].reshape(op.gates, hidden) for i in (0, 1))
        for phase in phases:
            for n in range(padded // UNIT_BLOCK):
                for bias in phase.biases:
                    total = np.zeros(hidden, np.float32)
                    for g in bias.input_gates:
                        total = total + wb[g]
                    for g in bias.recurrent_gates:
                        total = total + rb[g]
                    parts.append(lines(total, n))
                if p is not None:
                    parts += [lines(v, n) for v in p[d].reshape(3, hidden)]
                for section in phase.sections:
                    source = gate_w if section.source is Source.X else gate_r
                    # (gates, H, K) -> (K, gates, H)
                    chosen = source[list(section.gates)].transpose(2, 0, 1)
                    parts.append(lines(chosen, n))
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def pack_dense(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The packed weights of a dense layer w (K, N), b (N,)."""
    units = w.shape[1]
    padded = -(-units // UNIT_BLOCK) * UNIT_BLOCK
    wide = np.zeros((w.shape[0] + 1, padded), np.float32)
    wide[0, :units], wide[1:, :units] = b, w
    return np.ascontiguousarray(
        wide.reshape(w.shape[0] + 1, -1, UNIT_BLOCK).transpose(1, 0, 2)
    ).ravel()


@dataclass
class ProgramBuilder:
    """Collects buffers and calls of a Program.

    Args:
        name: of the signature.
    """

    name: str = "model"
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    states: list[StateSpec] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    weights: bytes = b""
    state: bytes = b""
    scratch: int = 0

    def input(self, dtype: DType, shape: Sequence[int]) -> Buffer:
        """An input of the signature."""
        return self._border(self.inputs, Space.INPUT, dtype, shape)

    def output(self, dtype: DType, shape: Sequence[int]) -> Buffer:
        """An output of the signature."""
        return self._border(self.outputs, Space.OUTPUT, dtype, shape)

    def _border(self, specs, space, dtype, shape) -> Buffer:
        offset = specs[-1].offset_bytes + specs[-1].nbytes if specs else 0
        offset = -(-offset // dtype.itemsize) * dtype.itemsize
        name = f"{space.value}{len(specs)}"
        specs.append(TensorSpec(name, dtype, tuple(shape), offset, tuple(shape)))
        return Buffer(name, TensorType(dtype, tuple(shape)), space, offset)

    def weight(self, data: np.ndarray) -> Buffer:
        """A part of the weight blob."""
        offset = len(self.weights)
        raw = data.tobytes()
        self.weights += raw + bytes(-len(raw) % 64)
        return Buffer(f"w{offset}", TensorType.of(data), Space.WEIGHTS, offset)

    def memory(self, shape: Sequence[int], init: np.ndarray | None = None) -> Buffer:
        """A state with its first contents."""
        data = np.zeros(shape, np.float32) if init is None else init.astype(np.float32)
        offset = len(self.state)
        raw = data.tobytes()
        self.state += raw + bytes(-len(raw) % 64)
        self.states.append(StateSpec(f"s{offset}", DType.F32, tuple(shape), offset))
        return Buffer(f"s{offset}", TensorType.of(data), Space.STATE, offset)

    def temporary(self, shape: Sequence[int], dtype: DType = DType.F32) -> Buffer:
        """Scratch memory."""
        kind = TensorType(dtype, tuple(shape))
        offset = self.scratch
        self.scratch += -(-kind.nbytes // 64) * 64
        return Buffer(f"t{offset}", kind, Space.SCRATCH, offset)

    def call(self, kernel: Kernel, inputs, outputs, workspace=None) -> None:
        """A kernel call."""
        name = f"call{len(self.calls)}"
        self.calls.append(Call(kernel, tuple(inputs), tuple(outputs), workspace, name, name))

    def recurrent(self, op, features, steps, batch, weights, peepholes=None, **buffers) -> Kernel:
        """A recurrent call; buffers: x, lengths, h0, c0, y, y_h, y_c."""
        w, r, b = weights
        phases = phases_of(op, features)
        kernel = RecurrentKernel(
            op, steps, batch, features, peepholes is not None, UNIT_BLOCK, phases
        )
        packed = self.weight(pack(op, phases, w, r, b, peepholes))
        inputs = [buffers["x"], packed, *(buffers.get(k) for k in ("lengths", "h0"))]
        outputs = [buffers.get("y"), buffers["y_h"]]
        if op.state_count == 2:
            inputs.append(buffers.get("c0"))
            outputs.append(buffers["y_c"])
        work = self.temporary((kernel.sizes.workspace_elements,))
        self.call(kernel, inputs, outputs, work)
        return kernel

    def dense(self, x: Buffer, y: Buffer, w, b, activation: Activation | None = None) -> None:
        """A dense call."""
        rows = x.type.size // w.shape[0]
        kernel = DenseKernel(rows, w.shape[0], w.shape[1], activation, UNIT_BLOCK)
        self.call(kernel, [x, self.weight(pack_dense(w, b))], [y])

    def build(self, mode="stream") -> Program:
        """The Program."""

        def size(specs):
            return specs[-1].offset_bytes + specs[-1].nbytes if specs else 0

        signature = Signature(
            self.name,
            mode,
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(self.states),
            size(self.inputs),
            size(self.outputs),
        )
        return Program(signature, tuple(self.calls), self.weights, self.state, self.scratch, macs=0)
