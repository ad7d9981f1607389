"""Compiling a Program and calling its native functions through ctypes."""

from __future__ import annotations

import ctypes
import os
import tempfile

import numpy as np

from edgelstm.engines.base import code_of
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm_compiler.ir.program import Program
from edgelstm_targets.processors.x86 import X86_64_DOT
from edgelstm_targets.tvm_cpu.target import HostTarget

ISAS = tuple(isa.name for isa in X86_64_DOT if cpu_flags().issuperset(isa.requires))
"""Names of the instruction sets that this machine runs."""


def emit(program: Program, **options: str):
    """All stages of the target."""
    target = HostTarget()
    result = program
    for stage in target.stages(target.options(options)):
        result = stage.run(result)
    return result


def aligned(size: int, offset: int = 0) -> np.ndarray:
    """Bytes that begin `offset` beyond a multiple of 64."""
    raw = np.zeros(size + 192, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    return raw[start : start + size]


class Native:
    """One instruction set's code of a Program, with its memory.

    Inputs and outputs are placed at addresses that are only a multiple of 4, and the memory
    around outputs is watched.
    """

    def __init__(self, program: Program, shared: bytes) -> None:
        self.program = program
        self.signature = program.signature
        with tempfile.NamedTemporaryFile(suffix=".so", delete=False) as file:
            file.write(shared)
        self.library = ctypes.CDLL(file.name)
        os.unlink(file.name)
        name = self.signature.name
        self._step = getattr(self.library, f"{name}_step")
        self._run = getattr(self.library, f"{name}_run")
        self.read = getattr(self.library, f"{name}_read")
        self.read.restype = ctypes.c_int64
        self.weights = aligned(len(program.weights))
        self.weights[:] = np.frombuffer(program.weights, np.uint8)
        self.state = aligned(len(program.state_init))
        self.scratch = aligned(program.scratch_bytes)
        self.scratch[:] = 0xFF  # its contents mean nothing
        self.reset()

    def reset(self) -> None:
        """Back to the first state."""
        self.state[:] = np.frombuffer(self.program.state_init, np.uint8)

    def call(self, block: bytes, steps: int | None = None) -> tuple[int, bytes]:
        """Step or run on an input block; the code returned and the output block."""
        source = aligned(len(block), 4)
        source[:] = np.frombuffer(block, np.uint8)
        size = self.signature.output_bytes * (1 if steps is None else steps)
        target = aligned(size + 64, 4)
        target[:] = 0xA5
        pointers = [
            ctypes.c_void_p(a.ctypes.data)
            for a in (self.weights, self.state, self.scratch, source, target)
        ]
        if steps is None:
            code = self._step(*pointers)
        else:
            code = self._run(*pointers, ctypes.c_int64(steps))
        assert (target[size:] == 0xA5).all(), "wrote beyond the output"
        return code_of(code), target[:size].tobytes()

    def step(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """One step on arrays."""
        block = bytearray(self.signature.input_bytes)
        for spec, data in zip(self.signature.inputs, inputs, strict=True):
            raw = np.ascontiguousarray(data, spec.dtype.numpy).tobytes()
            assert len(raw) == spec.nbytes
            block[spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw
        code, result = self.call(bytes(block))
        assert code == 0, code
        return [
            np.frombuffer(
                result, spec.dtype.numpy, spec.nbytes // spec.dtype.itemsize, spec.offset_bytes
            ).reshape(spec.shape)
            for spec in self.signature.outputs
        ]


def natives(program: Program, **options: str) -> dict[str, Native]:
    """The code for every instruction set that runs here."""
    emission = emit(program, **options)
    sections = {name.removeprefix("code/"): code for name, code in emission.sections.items()}
    return {
        name: Native(program, code)
        for name, code in sections.items()
        if name in ISAS or name == "native"
    }
