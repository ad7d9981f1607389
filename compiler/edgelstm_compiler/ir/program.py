"""Program: kernel calls over planned memory. This is what a target receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from edgelstm.signature import Signature
from edgelstm_compiler.ir.kernels import Kernel
from edgelstm_compiler.ir.types import TensorType


class Space(StrEnum):
    """The memory block a buffer stands in; one pointer each in the native call."""

    INPUT = "input"
    OUTPUT = "output"
    WEIGHTS = "weights"
    STATE = "state"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A dense row-major tensor at a fixed place; several may overlap where lives do not.

    Weights, states and scratch are aligned to 64 bytes (`ALIGNMENT`); inputs and outputs to their
    element only, because they are the caller's arrays.
    """

    name: str
    type: TensorType
    space: Space
    offset_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One kernel on its buffers.

    Args:
        kernel: what is computed.
        inputs: None where an optional input is absent.
        outputs: None where an output is not wanted.
        workspace: memory for the kernel's own use, or None.
        name: the node it came from, for dumps and messages.
        origin: the ONNX node, for messages.
    """

    kernel: Kernel
    inputs: tuple[Buffer | None, ...]
    outputs: tuple[Buffer | None, ...]
    workspace: Buffer | None
    name: str
    origin: str


ALIGNMENT = 64

NOTES_BYTES = 64
"""The first bytes of the scratch block, which no buffer takes: a target's own notes from step to
step, such as the direction in which weights were walked, or how many values were saturated. They
never change a result; whatever stands there at first will do."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Everything that a step does and needs.

    Args:
        signature: inputs, outputs, states, with their places in the blocks.
        calls: in order.
        weights: the weight blob.
        state_init: the state block before the first step.
        scratch_bytes: size of the scratch block, notes included; no result depends on what it
            holds between steps.
        macs: multiply-accumulates of one step.
        shadow_offset: where in scratch a copy of the whole state block fits, so that a step whose
            new states are not finite can be undone; None where that cannot happen.
        shares_frames: streams that are stepped together read the same frames: windows that
            overlap.
    """

    signature: Signature
    calls: tuple[Call, ...]
    weights: bytes = field(repr=False)
    state_init: bytes = field(repr=False)
    scratch_bytes: int
    macs: int
    shadow_offset: int | None = None
    shares_frames: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ScanKernel(Kernel):
    """A program once a frame, whose states are handed from frame to frame.

    Call inputs: first states, sequences (T, ...), what stays the same, the body's weights (bytes);
    call outputs: states after the last frame, rows (T, ...). The inputs of the body's program are a
    frame of each sequence, then what stays the same; its outputs are the rows.
    Workspace: `workspace_bytes`: the body's state block, then its scratch.

    Args:
        states: number of carried values.
        sequences: number of sequences.
        length: number of frames.
        body: the program of one frame.
    """

    states: int
    sequences: int
    length: int
    body: Program

    @property
    def state_bytes(self) -> int:
        """Bytes of the body's state block, padded so that its scratch is aligned."""
        return -(-len(self.body.state_init) // ALIGNMENT) * ALIGNMENT

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the workspace."""
        return self.state_bytes + self.body.scratch_bytes
